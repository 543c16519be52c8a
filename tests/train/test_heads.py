"""Training heads: they train, they train the network through the feature they read, and nothing of them is left."""

import numpy as np
import pytest
import torch
from torch import nn

from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.train import loop
from nasseg.train.heads import DetailGuidance, TrainingHeads
from nasseg.train.loop import train
from nasseg.train.recipe import DetailHead, Recipe
from tests.slow import slow

# Where the papers have them, and for each family one of every kind.
HEADS = {
    "bisenetv2": [
        {"kind": "booster", "features": ["stem", "s3", "s4", "s5", "ce"]},  # the positions of Table 4
        {"kind": "auxiliary", "features": ["detail3"]},
        {"kind": "detail", "feature": "detail2"},
    ],
    "stdc": [
        {"kind": "auxiliary", "features": ["context8", "context16"]},
        {"kind": "detail", "feature": "stage3"},
        {"kind": "booster", "features": ["stage4"]},
    ],
    "eseg": [
        {"kind": "booster", "features": ["p5", "p9"]},
        {"kind": "auxiliary", "features": ["p4"]},
        {"kind": "detail", "feature": "p2", "strides": [2, 1], "fusion": "fixed"},
    ],
    "regseg": [
        {"kind": "booster", "features": ["stage4"]},
        {"kind": "auxiliary", "features": ["stage3"]},
        {"kind": "detail", "feature": "stage2", "strides": [4]},
    ],
    "dabnet": [
        {"kind": "booster", "features": ["block2"]},
        {"kind": "auxiliary", "features": ["block1"]},
        {"kind": "detail", "feature": "stem"},
    ],
}


@pytest.fixture(scope="module")
def data():
    return load_data("scenes", size=(32, 64), train=12, val=2)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(family, classes, **params):
    torch.manual_seed(0)
    return make_arch(family, width=0.25, **params).build(classes)


def heads_of(settings, model, classes=4):
    return TrainingHeads(Recipe(heads=settings), model, classes)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        slow(family, each) if family in ("eseg", "regseg", "dabnet") and each != kinds[0] else (family, each)
        for family, kinds in HEADS.items()
        for each in kinds
    ],
)
def test_a_head_trains_itself_and_the_network_and_is_dropped(family, settings, data, monkeypatch):
    made = []

    def make(*args):
        heads = TrainingHeads(*args)
        made.append((heads, {name: tensor.clone() for name, tensor in heads.named_parameters()}))
        return heads

    monkeypatch.setattr(loop, "TrainingHeads", make)
    model = network(family, data.num_classes)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = Recipe(steps=3, batch_size=4, heads=[settings], weight_decay=0, ema_decay=0.9)
    train(model, data, recipe, seed=0)
    ((heads, first),) = made
    single = settings.get("strides") == [4]  # one weight of a softmax is 1 whatever it is
    assert {name for name, tensor in heads.named_parameters() if torch.equal(tensor, first[name])} == (
        {"heads.0.fusion"} if single else set()
    )
    after = model.state_dict()
    assert list(after) == list(before)
    stayed = [name for name, _ in model.named_parameters() if torch.equal(after[name], before[name])]
    assert len(stayed) <= 0.02 * len(before), stayed  # on so small maps, a few get a gradient of zero
    source = model.encoder if model.context is None else model.context
    assert not source._forward_hooks


@pytest.mark.parametrize("settings", [HEADS["bisenetv2"][0], *HEADS["stdc"][:2]])
def test_the_network_learns_through_its_heads_alone(settings):
    """Without the main loss, gradients reach what lies before the feature, and nothing of the decoder."""
    model = network("bisenetv2" if settings["kind"] == "booster" else "stdc", 4).train()
    heads = heads_of([settings], model)
    with heads.reading(model):
        model(torch.randn(2, 3, 64, 96))
    sum(heads.losses(model, torch.randint(0, 4, (2, 64, 96)))).backward()
    assert all(weight.grad is None for part in (model.decoder, model.head) for weight in part.parameters())
    assert any(weight.grad is not None and weight.grad.any() for weight in model.encoder.parameters())
    assert all(weight.grad is not None for weight in heads.parameters())


def test_the_main_output_is_the_networks_own():
    model = network("stdc", 4).eval()
    image = torch.randn(1, 3, 64, 96)
    heads = heads_of(HEADS["stdc"], model)
    with torch.inference_mode(), heads.reading(model):
        with_heads = model(image)
    with torch.inference_mode():
        assert torch.equal(with_heads, model(image))


def test_weights_of_losses():
    model, labels = network("stdc", 4).train(), torch.randint(0, 4, (2, 64, 96))
    settings = {"kind": "auxiliary", "features": ["context8", "context16"]}
    losses = []
    for weight in (1.0, 0.4):
        torch.manual_seed(1)
        heads = heads_of([{**settings, "weight": weight}], model)
        with heads.reading(model):
            model(torch.ones(2, 3, 64, 96))
        losses.append(torch.stack(heads.losses(model, labels)))
    torch.testing.assert_close(losses[1], 0.4 * losses[0])


def test_booster_and_auxiliary_heads_are_their_papers():
    """BiSeNetV2's Figure 7 with He initialisation; STDC's without bias."""
    model = network("bisenetv2", 4, channel_ratio=1.0)
    (booster,) = heads_of([{"kind": "booster", "features": ["s5"], "width": 256}], model).heads
    (auxiliary,) = heads_of([{"kind": "auxiliary", "features": ["s5"]}], model).heads
    convs = [layer for layer in booster.modules() if isinstance(layer, nn.Conv2d)]
    assert [(conv.kernel_size, conv.out_channels) for conv in convs] == [((3, 3), 256), ((1, 1), 4)]
    assert convs[0].weight.std().item() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.02)
    assert convs[1].bias is not None
    assert not [name for name, _ in auxiliary.named_parameters() if name.endswith("1.bias") and "0." not in name]


def target(labels, **settings):
    """The fused target of 8 x 8 pixels and the module that fused it."""
    guidance = DetailGuidance(DetailHead(kind="detail", feature="x", **settings), 8)
    return guidance.target(labels), guidance


def test_fused_targets_by_hand():
    """Class 2 at pixel (0, 0) alone: detail at it, at 2 x 2 and at 4 x 4 pixels for strides 1, 2, 4."""
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 0, 0] = 2
    for strides, side in (((1,), 1), ((2,), 2), ((4,), 4), ((1, 2), 2), ((1, 2, 4), 4)):
        expected = torch.zeros(1, 8, 8)
        expected[0, :side, :side] = 1
        assert torch.equal(target(labels, strides=strides)[0], expected), strides


def test_fusion_starts_at_the_published_weights_and_a_small_one_does_not_make_detail():
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 0, 0] = 2
    _, guidance = target(labels)
    torch.testing.assert_close(guidance.fusion.softmax(0), torch.tensor([0.6, 0.3, 0.1]))
    with torch.no_grad():
        guidance.fusion.copy_(torch.tensor([0.62, 0.3, 0.08]).log())
    assert guidance.target(labels).sum() == 4
    guidance.target(labels)[0, 0, 1].backward()  # strides 2 and 4 there: the gradient of a softmax's two of three
    torch.testing.assert_close(guidance.fusion.grad, torch.tensor([-0.62 * 0.38, 0.3 * 0.62, 0.08 * 0.62]))


def test_the_released_target_and_loss_are_those_of_a_plain_reading():
    """Of 9 x 14 pixels with an ignored region: kernel, strides, thresholds and dice written out in loops and floats."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (2, 3, 5)).repeat(3, 1).repeat(3, 2)[:, :, :14]
    labels[0, 2:5, 6:9] = 255
    logits = random.normal(size=labels.shape)
    padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)))
    expected, loss = np.zeros(labels.shape), 0.0
    for n, y, x in np.ndindex(labels.shape):
        vote = np.float32(0)
        for stride, weight in ((1, 0.6), (2, 0.3), (4, 0.1)):
            rows, columns = (len(range(0, side, stride)) for side in labels.shape[1:])
            top, left = y * rows // labels.shape[1] * stride, x * columns // labels.shape[2] * stride
            if 9 * padded[n, top + 1, left + 1] - padded[n, top : top + 3, left : left + 3].sum() > 0.1:
                vote += np.float32(weight)
        expected[n, y, x] = vote > np.float32(0.1)
    p = 1 / (1 + np.exp(-logits))
    loss = -np.mean(np.log(np.where(expected == 1, p, 1 - p)))
    for one, goal in zip(p, expected, strict=True):
        loss += (1 - (2 * (one * goal).sum() + 1) / (one.sum() + goal.sum() + 1)) / len(p)

    found, guidance = target(torch.from_numpy(labels), form="released", fusion="fixed")
    assert np.array_equal(found.numpy(), expected)
    assert 0 < expected.mean() < 1
    of_head = guidance.loss(torch.from_numpy(logits).float()[:, None], torch.from_numpy(labels))
    assert of_head.item() == pytest.approx(loss, rel=1e-5)


def test_what_only_the_coarsest_map_marks_is_no_detail_as_released():
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 0, 0] = 2
    assert target(labels, form="released", fusion="fixed")[0].sum() == 4  # in print, and with stride 4, 16


def test_a_fixed_fusion_is_no_weight():
    _, guidance = target(torch.zeros(1, 8, 8, dtype=torch.int64), fusion="fixed")
    assert "fusion" not in dict(guidance.named_parameters())
    assert "fusion" in dict(guidance.named_buffers())


@pytest.mark.parametrize(
    ("family", "settings", "said"),
    [
        ("bisenetv2", {"kind": "booster", "features": ["s3", "s44"]}, "booster head 's44': did you mean 's4'"),
        ("dabnet", {"kind": "detail", "feature": "stage3"}, "detail head 'stage3': did you mean 'stem'"),
        ("regseg", {"kind": "auxiliary", "features": ["context8"]}, "unknown feature for auxiliary head 'context8'"),
    ],
)
def test_a_feature_that_is_not_there(family, settings, said, data):
    with pytest.raises(UserError, match=said):
        train(network(family, data.num_classes), data, Recipe(steps=1, heads=[settings]), seed=0)


def test_a_network_without_named_features(data):
    recipe = Recipe(steps=1, heads=[{"kind": "booster", "features": ["s3"]}])
    with pytest.raises(UserError, match="named features, got a Conv2d: leave out `heads`"):
        train(nn.Conv2d(3, data.num_classes, 1), data, recipe, seed=0)


@pytest.mark.slow
def test_one_seed_one_result_with_heads(data):
    states = []
    for seed, heads in ((1, HEADS["stdc"]), (1, HEADS["stdc"]), (1, HEADS["stdc"][:1])):
        model = network("stdc", data.num_classes)
        train(model, data, Recipe(steps=2, batch_size=4, ohem={"probability_below": 0.7}, heads=heads), seed=seed)
        states.append(model.state_dict())
    first, same, other = states
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
