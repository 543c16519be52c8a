"""The identity of an inference graph: a hash that does not depend on names or on the order of definition."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from nasseg.families.graph.recorder import COMMUTATIVE, Edge, Graph, Operator


def fingerprint(graph: Graph) -> str:
    """Hash the part of a graph that the logits depend on: operators, attributes, weight shapes and edges.

    A walk from the output numbers the operators in the order in which it meets them. It takes the inputs of sums and
    products in the order of their own hashes, so neither the order of definition nor that of the run matters. Weights
    are numbered in the same way: one shared weight differs from two.
    """
    indices = graph.needed()
    described = {index: _describe(graph.operators[index]) for index in indices}
    above: dict[int, str] = {-1: "image"}  # a hash of what leads to a node, blind to sharing
    for index in indices:
        operator = graph.operators[index]
        sources = [f"{above[source]}:{output}" for source, output in operator.inputs]
        above[index] = _hash(described[index], sorted(sources) if _commutative(operator) else sources)
    around = _around(graph, indices, above)

    def ordered(operator: Operator) -> Sequence[Edge]:
        if not _commutative(operator):
            return operator.inputs
        return sorted(operator.inputs, key=lambda edge: (f"{above[edge[0]]}:{edge[1]}", around.get(edge[0], 0)))

    inputs = {index: ordered(graph.operators[index]) for index in indices}
    numbers = {-1: -1}  # the image first
    weight_numbers: dict[int, int] = {}
    lines: list[str] = [repr(graph.image_shape)]
    last, number = graph.outputs["logits"]
    if number:  # of an operator with several outputs, not the first
        lines.append(f"output {number}")
    stack = [last] if indices else []
    while stack:
        index = stack[-1]
        ahead = [source for source, _ in inputs[index] if source not in numbers]
        if ahead:
            stack.append(ahead[0])
            continue
        numbers[stack.pop()] = len(numbers) - 1
        edges = [(numbers[source], output) for source, output in inputs[index]]
        weights = [
            weight and weight_numbers.setdefault(weight.index, len(weight_numbers))
            for weight in graph.operators[index].weights
        ]
        lines.append(f"{described[index]} {edges} {weights}")
    return _hash(*lines)


def _around(graph: Graph, indices: list[int], above: dict[int, str]) -> dict[int, int]:
    """Rank nodes whose hash `above` is the same, by what uses them and their weights.

    Each round looks one step further, until a round tells no more nodes apart (colour refinement). The result is empty
    if no commutative operator has two inputs that look alike.
    """
    operators = {index: graph.operators[index] for index in indices}
    pairs = [{source for source, _ in operator.inputs} for operator in operators.values() if _commutative(operator)]
    if all(len({above[source] for source in sources}) == len(sources) for sources in pairs):
        return {}
    ranks = _ranked(above)
    while True:
        users: dict[Any, list[tuple[int, ...]]] = defaultdict(list)  # of a node; of a weight
        for index, operator in operators.items():
            for position, (source, output) in enumerate(operator.inputs):
                users[source].append((ranks[index], -1 if _commutative(operator) else position, output))
            for position, weight in enumerate(operator.weights):
                users["weight", weight and weight.index].append((ranks[index], position))
        looks: dict[int, Any] = {-1: (ranks[-1],)}
        for index, operator in operators.items():
            sources = sorted(ranks[source] for source, _ in operator.inputs)
            shared = [sorted(users["weight", weight and weight.index]) for weight in operator.weights]
            looks[index] = (ranks[index], sorted(users[index]), sources, shared)
        refined = _ranked({index: repr(look) for index, look in looks.items()})
        if max(refined.values()) == max(ranks.values()):
            return refined
        ranks = refined


def _ranked(looks: dict[int, str]) -> dict[int, int]:
    order = {look: rank for rank, look in enumerate(sorted(set(looks.values())))}
    return {index: order[look] for index, look in looks.items()}


def _commutative(operator: Operator) -> bool:
    return operator.kind in COMMUTATIVE and "alpha" not in dict(operator.attributes)  # add(a, b, alpha=2) is a + 2 b


def _describe(operator: Operator) -> str:
    weights = [weight and weight.shape for weight in operator.weights]
    return f"{operator.kind} {operator.attributes} {weights} {operator.output_shapes}"


def _hash(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
