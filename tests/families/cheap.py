"""A narrow network of every family, for what computes."""

import pytest

from nasseg.families import FAMILIES

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


def slow(*values):
    """Mark one set of a test's parameters: the quick tests run the others."""
    return pytest.param(*values, marks=pytest.mark.slow)
