"""Names of other people's files: the rules' own behaviour, and the maps that are shipped."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.train.key_maps import check_rules, key_maps, read_rules, rename
from nasseg.train.weights import load_weights, load_whole

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "released"
# As released, file by file: address here, largest difference of a logit as a share of the largest one.
RELEASED = [("regseg", "regseg"), ("dabnet-19", "dabnet"), ("stdc1-seg", "stdc1-seg")]
CLOSE = 1e-5
# By decoder: tensors of the authors' files, and logits of their own decoder (github.com/RolandGao/RegSeg) with the
# weights of `value` on maps of numpy.random.default_rng(0), at strides 8, then 16.
DECODERS = json.loads(Path(__file__).with_name("released_decoders.json").read_text())

# Of shipped maps, by the beginning of their sources: some layers of a file, in its order, and where they are here.
LAYERS = {
    "RegSeg as its authors released it": [
        ("stem.conv", "encoder.stem.0"),
        ("stem.bn", "encoder.stem.1"),
        ("body.stage4.conv1", "encoder.stage2.0.main.0.0"),
        ("body.stage4.bn1", "encoder.stage2.0.main.0.1"),
        ("body.stage4.conv2", "encoder.stage2.0.main.1.convs.0"),
        ("body.stage4.se.conv1", "encoder.stage2.0.main.4.1"),
        ("body.stage4.se.conv2", "encoder.stage2.0.main.4.3"),
        ("body.stage4.shortcut.conv", "encoder.stage2.0.shortcut.1"),
        ("body.stage16.0.conv1", "encoder.stage4.0.main.0.0"),
        ("body.stage16.2.conv2.convs.0", "encoder.stage4.2.main.1.convs.0"),
        ("body.stage16.2.conv2.convs.1", "encoder.stage4.2.main.1.convs.1"),
        ("body.stage16.13.shortcut.conv", "encoder.stage4.13.shortcut.0"),
        ("decoder.head16.conv", "decoder.coarse.0"),
        ("decoder.head4.conv", "decoder.fine.0"),
        ("decoder.conv4.conv", "decoder.fuse_fine.0"),
        ("decoder.classifier", "head"),
    ],
    "RegSeg as its authors release it, with a decoder": [
        ("body.stage16.0.conv1", "encoder.stage4.0.main.0.0"),
        ("decoder.head16.conv", "decoder.coarse.0"),
        ("decoder.head8.conv", "decoder.fine.0"),
        ("decoder.conv.conv", "decoder.conv.0"),
        ("decoder.conv.bn", "decoder.conv.1"),
    ],
    "DABNet": [
        ("init_conv.0.conv", "encoder.stem.0"),
        ("bn_prelu_1.bn", "encoder.norms.0.0"),
        ("bn_prelu_1.acti", "encoder.norms.0.1"),
        ("DAB_Block_1.DAB_Module_1_0.bn_relu_1.bn", "encoder.block1.0.reduce.0.0"),
        ("DAB_Block_1.DAB_Module_1_0.conv3x3.conv", "encoder.block1.0.reduce.1"),
        ("DAB_Block_1.DAB_Module_1_0.ddconv1x3.conv", "encoder.block1.0.dilated.2"),
        ("bn_prelu_2.bn", "encoder.norms.1.0"),
        ("classifier.0.conv", "head"),
    ],
    "STDC as its authors": [
        ("cp.backbone.features.0.conv", "encoder.stage1.0"),
        ("cp.backbone.features.2.conv_list.0.conv", "encoder.stage3.0.block1.0"),
        ("cp.backbone.features.2.conv_list.1.conv", "encoder.stage3.0.blocks.0.0"),
        ("cp.backbone.features.2.conv_list.3.conv", "encoder.stage3.0.blocks.2.0"),
        ("cp.backbone.features.2.avd_layer.0", "encoder.stage3.0.down.0"),
        ("cp.backbone.features.11.conv_list.0.conv", "encoder.stage5.0.block1.0"),
        ("cp.arm16.bn_atten", "context.arm_middle.attention.2"),
        ("ffm.conv1", "decoder.attention.1"),
        ("conv_out.conv_out", "head.1"),
    ],
    "STDC's ImageNet": [
        ("features.0.conv", "encoder.stage1.0"),
        ("features.2.conv_list.0.conv", "encoder.stage3.0.block1.0"),
        ("conv_last.conv", "decoder.conv.0"),
        ("fc", "head.fc.0"),
        ("linear", "head.fc.3"),
    ],
    "a ResNet": [
        ("conv1", "encoder.levels.0.0.0"),
        ("bn1", "encoder.levels.0.0.1"),
        ("layer1.0.conv1", "encoder.levels.1.1.main.0.0"),
        ("layer2.0.downsample.0", "encoder.levels.2.0.shortcut.0"),
        ("layer4.0.conv1", "encoder.levels.4.0.main.0.0"),
    ],
    "a MobileNetV2 by the names of torchvision": [
        ("features.0.0", "encoder.encoder.levels.0.0.0"),
        ("features.1.conv.0.0", "encoder.encoder.levels.0.1.main.0"),
        ("features.17.conv.2", "encoder.encoder.levels.4.6.main.6"),
        ("features.18.0", "encoder.last.conv.0"),
    ],
    "torchvision's LRASPP": [
        ("classifier.low_classifier", None),
        ("backbone.0.0", "encoder.encoder.levels.0.0.0"),
        ("backbone.4.block.0.0", "encoder.encoder.levels.2.0.main.0"),
        ("backbone.16.0", "encoder.last.conv.0"),
        ("backbone.15.block.0.0", "encoder.encoder.levels.4.2.main.0"),
    ],
    "a MobileNetV3 by the names of timm": [
        ("conv_stem", "encoder.encoder.levels.0.0.0"),
        ("bn1", "encoder.encoder.levels.0.0.1"),
        ("blocks.1.0.conv_pw", "encoder.encoder.levels.1.0.main.0"),
        ("blocks.5.0.conv_pw", "encoder.encoder.levels.4.0.main.0"),
        ("blocks.6.0.conv", "encoder.last.conv.0"),
    ],
    "a GhostNet": [
        ("conv_stem", "encoder.encoder.levels.0.0.0"),
        ("blocks.6.0.ghost1.primary_conv.0", "encoder.encoder.levels.3.3.main.0.primary.0"),
        ("blocks.8.0.ghost1.primary_conv.0", "encoder.encoder.levels.4.1.main.0.primary.0"),
        ("blocks.9.0.conv", "encoder.last.conv.0"),
    ],
    "a ShuffleNetV2": [
        ("conv1.0", "encoder.levels.0.0.0"),
        ("stage2.0.branch1.0", "encoder.levels.2.0.left.0"),
        ("stage2.0.branch2.0", "encoder.levels.2.0.right.0.0"),
        ("stage4.0.branch1.0", "encoder.levels.4.0.left.0"),
        ("stage4.0.branch2.0", "encoder.levels.4.0.right.0.0"),
    ],
}


@pytest.mark.parametrize("source", LAYERS)
def test_shipped_maps_take_each_layer_to_its_place(source):
    pairs = [(f"{theirs}.weight", f"{ours}.weight") for theirs, ours in LAYERS[source] if ours]
    names, own = [f"{theirs}.weight" for theirs, _ in LAYERS[source]], [ours for _, ours in pairs]
    chosen = next(one for one in key_maps() if one.fits(names, own))
    assert chosen.source.startswith(source)
    assert rename(names, own, chosen.rules, chosen.dropped).names == dict(pairs)


def value(key, shape):
    """The fixed weights of ../shared/facts/released/README.md."""
    random = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_var"):
        found = 1 + 0.1 * abs(random)
    elif key.endswith(("running_mean", "bias")):
        found = 0.1 * random
    else:
        found = random * np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 1 + 0.1 * random
    return torch.tensor(found, dtype=torch.float32)


def released(name):
    """What is known of a released file, and its tensors."""
    facts = json.loads((FACTS / f"{name}.json").read_text())
    same = facts.get("same_tensor_as", {})
    return facts, {key: value(same.get(key, key), shape) for key, shape in facts["keys"].items()}


@pytest.mark.slow
@pytest.mark.skipif(not FACTS.is_dir(), reason="needs ../shared/facts/released")
@pytest.mark.parametrize(("name", "address"), RELEASED)
def test_a_released_file_gives_the_authors_logits(tmp_path, name, address):
    facts, state = released(name)
    whole = {facts["wrapped_in"]: state, "epoch": 3} if facts["wrapped_in"] else state
    torch.save(whole, tmp_path / "released.pth")
    model = make_arch(address).build(19).eval()
    found = load_whole(model, tmp_path / "released.pth")
    assert "authors" in found.source
    image = torch.tensor(np.random.default_rng(0).standard_normal((1, 3, 128, 256)), dtype=torch.float32)
    with torch.no_grad():
        logits = model(image)[0, :, ::32, ::64].flatten()
    expected = torch.tensor(facts["expected"]["values"])
    assert float((logits - expected).abs().max()) <= CLOSE * float(expected.abs().max())


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_of_table_5_gives_the_authors_logits(tmp_path, name):
    """Hold what is joined in which order: two orders fit the same weights, and one of them computes nonsense."""
    keys, expected = DECODERS[name]["keys"], torch.tensor(DECODERS[name]["expected"])
    state = {"body.stage16.0.conv1.weight": torch.zeros(1), **{key: value(key, shape) for key, shape in keys.items()}}
    torch.save(state, tmp_path / "released.pth")
    model = make_arch(f"regseg-t5-{name}").build(19).eval()
    found = load_weights(model, tmp_path / "released.pth")
    assert {*found.skipped} == {"body.stage16.0.conv1.weight"}
    assert {missing.partition(".")[0] for missing in found.missing} == {"encoder"}
    random = np.random.default_rng(0)
    maps = {"stage3": random.standard_normal((1, 128, 8, 16)), "stage4": random.standard_normal((1, 320, 4, 8))}
    with torch.no_grad():
        logits = model.head(model.decoder({key: torch.tensor(of, dtype=torch.float32) for key, of in maps.items()}))
    logits = logits[0, :, ::4, ::8].flatten()[: len(expected)]
    assert float((logits - expected).abs().max()) <= CLOSE * float(expected.abs().max())


@pytest.mark.slow
@pytest.mark.skipif(not FACTS.is_dir(), reason="needs ../shared/facts/released")
def test_stdc_s_imagenet_file_gives_the_backbone_and_names_what_it_drops(tmp_path):
    _, state = released("stdc1-seg")
    backbone = {key.removeprefix("cp.backbone."): t for key, t in state.items() if key.startswith("cp.backbone.")}
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in backbone.items()}}, tmp_path / "net.pth")
    found = load_weights(make_arch("stdc1-seg").build(19), tmp_path / "net.pth")
    assert {name.partition(".")[0] for name in found.missing} == {"context", "decoder", "head"}
    assert {*found.skipped.values()} == {
        "the same tensors again",
        "a layer that is never used",
        "the classifier of ImageNet",
    }
    assert not load_whole(make_arch("stdc1").build(1000), tmp_path / "net.pth").missing
    with pytest.raises(UserError, match=r"does not fill this network.* is 12 layers in the file, .* 24 in the network"):
        load_whole(make_arch("stdc2").build(1000), tmp_path / "net.pth")


def test_a_users_rules_keep_text_or_pair_in_order():
    names = ["net.a.0.bn.weight", "net.a.0.conv.weight", "blocks.0.weight", "blocks.1.weight", "old.x"]
    own = ["encoder.a.0.1.weight", "encoder.a.0.0.weight", "stage.1.0.weight", "stage.2.0.weight", "new.x"]
    rules = {
        "old.": "new.",
        "net.*.bn.*": "encoder.*.1.*",
        "net.*.conv.*": "encoder.*.0.*",
        "blocks.~": "stage.~",
    }
    check_rules(rules)
    assert rename(names, own, rules).names == dict(zip(names, own, strict=True))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["b.0.w", "b.1.w", "b.2.w"], "3 layers in the file"),
        (["b.10.w", "b.2.w"], "sorted by name"),
    ],
)
def test_layers_that_cannot_be_paired_in_order_are_refused(names, why):
    found = rename(names, ["s.0.w", "s.1.w"], {"b.~": "s.~"})
    assert not found.names
    assert all(why in reason for reason in found.refused.values())
    assert "has no t.~" in rename(names, ["s.0.w"], {"b.~": "t.~"}).refused[names[0]]


@pytest.mark.parametrize("rule", ["a.*: b", "a.~: b", "a.*: b.~", "a.*.*: b.*"])
def test_a_rule_with_wildcards_on_one_side_only_is_refused(rule):
    left, right = rule.split(": ")
    with pytest.raises(UserError, match="on both sides"):
        check_rules({left: right})


def test_rules_come_from_a_file(tmp_path):
    (tmp_path / "map.yaml").write_text("backbone.: encoder.\n")
    assert read_rules(tmp_path / "map.yaml") == {"backbone.": "encoder."}
    (tmp_path / "map.yaml").write_text("backbone.: 3\n")
    with pytest.raises(UserError, match=r"map\.yaml:1: a rule is"):
        read_rules(tmp_path / "map.yaml")
