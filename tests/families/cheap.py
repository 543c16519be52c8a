"""Name the networks that the quick tests take: a narrow one of every family for what computes, and one of each sort."""

from nasseg.families import FAMILIES, variants

CHEAP = {family: {"width": 0.25} for family in FAMILIES} | {
    "eseg": {"width": 0.25, "depth": 0.3},
    "backbone": {"name": "mobilenetv2"},
    "composed": {"encoder": "regseg", "regseg.width": 0.25, "decoder": "ffm", "decoder_width": 32, "head": "eseg"},
}

SHALLOW = {  # what makes a network of a family less deep
    "bisenetv2": {},
    "composed": {},
    "dabnet": {"block1_dilations": "(2)", "block2_dilations": "(4)+(8)"},
    "eseg": {"depth": 0.3},
    "regseg": {"dilations": "(1,1)+(1,2)", "stage3_depth": 1},
    "stdc": {},
}

SORTS = {  # a published network of each family, and of each decoder and fusion of its own
    (v.family, *(str(v.params.get(key)) for key in ("decoder", "aggregation", "fusion", "context", "form"))): name
    for name, v in reversed(variants().items())
}.values()
OF_EACH = {variants()[name].family: name for name in SORTS}.values()  # one a family
