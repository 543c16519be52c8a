"""The shape of networks: branches, joins, and what is inside a block."""

import pytest
from torch import nn
from torch.nn import functional as F

from nasseg.families import FAMILIES, make_arch
from nasseg.families.graph.recorder import record
from nasseg.measure.cost import measure_cost, operators
from nasseg.measure.topology import IMAGE, blocks


def shape(arch):
    """The blocks of a network by stride and inputs."""
    cost = measure_cost(arch, (256, 512))
    assert sum(block.macs for block in cost.blocks) == cost.macs
    assert sum(block.params for block in cost.blocks) == cost.params
    return [(block.stride, block.inputs) for block in cost.blocks]


def test_bisenetv2_has_two_branches_from_the_image_that_one_block_joins():
    found = shape(make_arch("bisenetv2"))
    assert sum(inputs == (IMAGE,) for _, inputs in found) == 2
    last = next(i for i, (stride, inputs) in enumerate(found) if stride == 8 and len(inputs) > 1)
    assert {found[i][0] for i in found[last][1]} >= {8, 32}
    assert sum(stride == 8 for stride, _ in found) >= 3  # both branches, and the join
    assert {2, 4, 8, 16, 32} == {stride for stride, _ in found}


@pytest.mark.parametrize("family", ["regseg", "stdc", "dabnet", "eseg"])
def test_each_family_is_a_few_blocks_in_the_order_of_the_run(family):
    found = shape(make_arch(family))
    assert 3 <= len(found) <= 60
    assert all(source < place for place, (_, inputs) in enumerate(found) for source in inputs)
    assert any(len(inputs) > 1 for _, inputs in found)
    assert family in FAMILIES


def test_regseg_is_one_chain_to_the_decoder_that_joins_three_strides():
    found = shape(make_arch("regseg"))
    strides = [stride for stride, _ in found]
    assert strides[:4] == [2, 4, 8, 16]
    assert [inputs for _, inputs in found[1:4]] == [(0,), (1,), (2,)]
    assert {strides[i] for _, inputs in found[4:] for i in inputs} >= {4, 8, 16}


class Residual(nn.Module):
    """A block with a strided shortcut, squeeze-and-excitation and a shortcut without weights: one block to a reader."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.down, self.short = nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 1, stride=2)
        self.squeeze, self.again = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 19, 1)

    def forward(self, image):
        x = self.stem(image)
        x = F.relu(self.down(x)) + self.short(x)
        x = x * self.squeeze(F.adaptive_avg_pool2d(x, 1)).sigmoid()
        x = self.head(x + self.again(x))
        return F.interpolate(x, image.shape[-2:], mode="bilinear")


def test_the_paths_inside_a_block_are_no_branches():
    graph = record(Residual(), (64, 64))
    found = blocks(graph, operators(graph))
    assert [(block.stride, block.inputs) for block in found] == [(2, (IMAGE,)), (4, (0,))]
    assert [block.width for block in found] == [8, 19]
