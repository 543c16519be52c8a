"""The shape of a network: blocks of operators at one output stride, and which block reads which.

It comes from the recorded graph alone, so every network has one, users' own too. Two blocks at one stride are two
branches; a block that reads several joins them.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from nasseg.families.graph.recorder import Graph
from nasseg.records import Block

IMAGE = -1  # the image, as an input of a block


class Row(Protocol):
    """An operator's stride, shape and cost."""

    @property
    def stride(self) -> int: ...
    @property
    def output_shape(self) -> tuple[int, ...]: ...
    @property
    def params(self) -> int: ...
    @property
    def macs(self) -> int: ...


class _Group:
    """Operators at one stride. inputs: names of the groups that it reads, or IMAGE."""

    def __init__(self, stride: int, inputs: set[int]) -> None:
        self.stride, self.inputs, self.rows, self.macs = stride, inputs, list[Row](), 0

    def add(self, rows: list[Row]) -> None:
        self.rows += rows
        self.macs += sum(row.macs for row in rows)


def blocks(graph: Graph, rows: Sequence[Row]) -> tuple[Block, ...]:
    """Return the blocks in the order in which they run. rows: the cost of each operator that the logits depend on."""
    groups = _grouped(graph, rows)
    readers: dict[int, set[int]] = defaultdict(set)
    for name, group in groups.items():
        for source in group.inputs:
            readers[source].add(name)
    while sum(_merged(name, groups, readers) for name in list(groups)):
        pass
    place = {name: index for index, name in enumerate(sorted(groups))}
    return tuple(
        Block(
            stride=group.stride,
            width=max((row.output_shape[1] for row in group.rows if row.macs and len(row.output_shape) > 1), default=0),
            params=sum(row.params for row in group.rows),
            macs=group.macs,
            inputs=tuple(sorted(place.get(source, IMAGE) for source in group.inputs)),
        )
        for _, group in sorted(groups.items())
    )


def _grouped(graph: Graph, rows: Sequence[Row]) -> dict[int, _Group]:
    """Add each operator to the group that it reads at its own stride. If there is none, or several, it begins a group.

    What is pooled to one pixel (squeeze-and-excitation, global context) belongs where it is pooled from, and what is
    computed from weights alone belongs where it is read. A group is named after its first operator.
    """
    of = dict[int, int]()  # operator -> group
    loose = dict[int, list[Row]]()  # operator on weights alone -> rows not in a group yet
    groups: dict[int, _Group] = {}
    for index, row in zip(graph.needed(), rows, strict=True):
        sources = {source for source, _ in graph.operators[index].inputs}
        read = {of.get(source, IMAGE) for source in sources - loose.keys()}
        placed = [row]
        for source in sources & loose.keys():
            placed += loose[source]
            loose[source] = []
        if not read:
            loose[index] = placed
            continue
        same = {name for name in read - {IMAGE} if groups[name].stride == row.stride}
        if not row.stride and read - {IMAGE}:
            of[index] = max(read)
        elif len(same) == 1 and read == same:
            of[index] = min(same)
        else:
            of[index] = index
            groups[index] = _Group(row.stride, read)
        groups[of[index]].add(placed)
    return groups


def _merged(name: int, groups: dict[int, _Group], readers: dict[int, set[int]]) -> bool:
    """Merge a group into another that belongs to the same block for a reader, if there is one.

    A group that multiplies nothing (an upsampling, a pooling, a sum) merges with what it reads, or with its only
    reader. So do the paths inside a block: a shortcut with a convolution, or pooling beside one. readers: of each
    group.
    """
    group = groups[name]
    if not group.macs and len(group.inputs) == 1 and (readers[name] or group.inputs != {IMAGE}):
        (source,) = group.inputs
        for reader in readers[name]:
            groups[reader].inputs = (groups[reader].inputs - {name}) | {source}
        readers[source] = (readers[source] | readers[name]) - {name}
        groups[source if source != IMAGE else min(readers[name])].add(group.rows)
        del groups[name], readers[name]
        return True
    if len(readers[name]) == 1:
        (reader,) = readers[name]
        target, beside = groups[reader], group.inputs | _twins(groups, readers, name)
        inside = target.stride == group.stride and target.inputs - {name} <= beside
        if not group.macs or inside:
            target.inputs = (target.inputs | group.inputs) - {name}
            for source in group.inputs:
                readers[source] = (readers[source] | {reader}) - {name}
            target.add(group.rows)
            del groups[name], readers[name]
            return True
    return False


def _twins(groups: dict[int, _Group], readers: dict[int, set[int]], name: int) -> set[int]:
    """Return the groups beside this one, and itself: those with its stride, inputs and readers."""
    one = groups[name]
    return {
        other
        for other in readers[min(one.inputs)]
        if groups[other].stride == one.stride and groups[other].inputs == one.inputs and readers[other] == readers[name]
    }
