"""Networks between the papers: the published ones are points, every pair that fits builds, samples come evenly."""

import random
from collections import Counter
from functools import cache
from itertools import product

import pytest
import torch

from nasseg.errors import UserError
from nasseg.families import PAPERS, build_model, make_arch, variants
from nasseg.families.composed import CHOICES, renamed
from nasseg.families.graph.recorder import record
from nasseg.space import load_space
from nasseg.study.check_space import published_in
from tests import ROOT

GUIDE = ROOT / "docs/guide/searching.md"
POINTS = [name for name in variants() if name.startswith("composed-")]
SPACE = load_space("composed")
DECODERS, HEADS = SPACE.parameters["decoder"].values, SPACE.parameters["head"].values
CONTEXTS = CHOICES["context"]
# As in spaces/composed.yaml: BiSeNetV2's Detail Branch is a part of its own there.
SEMANTIC = {"bisenetv2.branches": "semantic"}


def composed(encoder, decoder, **parts):
    return make_arch(
        "composed", encoder=encoder, decoder=decoder, **(SEMANTIC if encoder == "bisenetv2" else {}), **parts
    )


@cache
def builds(encoder, decoder, context, head):
    try:
        model = composed(encoder, decoder, context=context, head=head).build_meta(7)
    except UserError:
        return False
    graph = record(model, (97, 161))
    index, number = graph.outputs["logits"]
    assert graph.operators[index].output_shapes[number] == (1, 7, 97, 161)
    used = {w.index for operator in graph.reachable() for w in operator.weights if w and w.trainable}
    assert len(used) == len(list(model.parameters())), "weights that the logits do not depend on"
    return True


@pytest.mark.parametrize("name", POINTS)
def test_a_published_network_is_a_point_with_the_same_output_to_the_bit(name):
    same = name.removeprefix("composed-")
    assert make_arch(name).id == make_arch(same).id
    torch.manual_seed(0)
    published, model = build_model(same, 3), build_model(name, 3)
    missing, unexpected = model.load_state_dict(renamed(published.state_dict(), variants()[same].family), strict=True)
    assert not missing
    assert not unexpected
    image = torch.randn(1, 3, 97, 161)
    with torch.inference_mode():
        assert torch.equal(model(image), published(image))


def test_the_five_papers_are_points():
    assert {make_arch(name).encoder for name in POINTS} == set(PAPERS)
    assert set(published_in(SPACE)) == set(POINTS)


@pytest.mark.parametrize(("encoder", "decoder"), list(product(PAPERS, DECODERS)))
def test_every_pair_of_encoder_and_decoder_builds_on_an_odd_size(encoder, decoder):
    assert builds(encoder, decoder, "none", "regseg")


@pytest.mark.parametrize(("encoder", "context"), list(product(PAPERS, CONTEXTS)))
def test_every_context_and_head_fits_every_encoder(encoder, context):
    """Each context with each encoder, decoders and heads in turn."""
    turn = list(PAPERS).index(encoder) + CONTEXTS.index(context)
    assert builds(encoder, DECODERS[turn % len(DECODERS)], context, HEADS[turn % len(HEADS)])


def test_the_guide_has_the_pairs_as_they_are():
    table = GUIDE.read_text().split("<!-- pairs:")[1].split("\n\n")[0].splitlines()[1:]
    header, _, *rows = ([cell.strip() for cell in row.strip("|").split("|")] for row in table)
    assert tuple(header[1:]) == DECODERS
    assert [row[0] for row in rows] == list(PAPERS)
    for encoder, *cells in rows:
        for decoder, cell in zip(DECODERS, cells, strict=True):
            assert cell == ("yes" if builds(encoder, decoder, "none", "regseg") else "no"), (encoder, decoder)


def test_pairs_are_sampled_evenly():
    rng, count = random.Random(0), 2_000
    drawn = Counter((point["encoder"], point["decoder"]) for point in (SPACE.sample(rng) for _ in range(count)))
    expected = count / len(PAPERS) / len(DECODERS)
    assert set(drawn) == set(product(PAPERS, DECODERS))
    # Of 35 bins with a deviation of 7.5 each, chi-square has a mean of 34; 99.9 % of draws are below 65.
    assert sum((n - expected) ** 2 / expected for n in drawn.values()) < 65
    assert SPACE.count() > 10**9


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"encoder": "regsg"}, "did you mean 'regseg'"),
        ({"encoder": "composed"}, "the encoder must be of another family"),
        ({"decoder": "bgaa"}, "did you mean 'bga'"),
        ({"context": "asp"}, "did you mean 'aspp'"),
        (
            {"encoder": "regseg", "eseg.depth": 1.0},
            "parameter of composed with the encoder regseg 'eseg.depth'",
        ),
        ({"encoder": "regseg", "regseg.dilation": "(1)"}, "did you mean 'regseg.dilations'"),
        ({"encoder": "regseg", "regseg.dilations": "(1"}, "(1"),
        ({"encoder": "regseg", "regseg.stage4_width": 100}, "stage4_width must be a multiple of 32"),
        ({"encoder": "regseg", "detail_width": 64}, "the decoder must read detail3"),
        ({"encoder": "dabnet", "decoder": "ffm", "detail_width": 64}, "as a finer feature"),
        ({"encoder": "bisenetv2", "detail_width": 64}, "has the feature detail3 already"),
        ({"encoder": "bisenetv2", "decoder": "none"}, "the decoder must read detail3"),
        ({"decoder_width": 33}, "decoder_width must be even"),
        ({"decoder_repeats": 0}, "decoder_repeats must be at least 1"),
        ({"lowest_level": 4}, "lowest_level must be 2 or 3"),
        ({"highest_level": 10}, "highest_level must be from 5 to 9"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_built(params, message):
    with pytest.raises(UserError) as error:
        make_arch("composed", **params)
    assert message in str(error.value)


def test_adapters_are_there_only_where_widths_differ():
    same, narrow = (
        composed("bisenetv2", "bga", detail_width=128, decoder_width=width).build_meta(2) for width in (128, 64)
    )
    assert not list(same.decoder.adapter.parameters())
    assert [conv[0].kernel_size for conv in narrow.decoder.adapter.convs.values()] == [(1, 1), (1, 1)]
