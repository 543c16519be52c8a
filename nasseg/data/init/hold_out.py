"""Hold out images for validation, so that nothing leaks and every class is on both sides."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

SHARE = 0.2  # share held out
_DRAWS = 300


def hold_out(keys: Sequence[str], classes: Mapping[str, Collection[Any]]) -> tuple[list[str], str]:
    """Return the keys to hold out, and how they were chosen, in words.

    Frames of one sequence, whose names differ only in their last number, stay on one side; a single sequence is cut
    into blocks. Of many choices, it takes the one that spreads the classes best. classes: of keys, as far as known.
    """
    sequences: dict[str, list[str]] = {}
    for key in sorted(keys):
        sequences.setdefault(sequence_of(key), []).append(key)
    blocks, how = list(sequences.values()), f"whole sequences of {len(sequences)}"
    if len(blocks) == len(keys):
        how = "images"
    if len(blocks) < 3:
        pieces = np.array_split(np.array(sorted(keys)), min(len(keys), 2 * round(1 / SHARE)))
        blocks, how = [piece.tolist() for piece in pieces], "one block of neighbouring images"
    chosen = _best(blocks, classes, adjacent=len(sequences) < 3)
    held = sorted(key for place in chosen for key in blocks[place])
    return held, f"{len(held)} of {len(keys)} images are held out for val, {how}, with classes on both sides"


def sequence_of(key: str) -> str:
    """Return a key without its last number, `0016E5` of `0016E5_07959`; a name without a number is its own sequence."""
    folder, _, name = key.rpartition("/")
    stem = re.sub(r"[_\-.]?\d+(?=\D*$)", "", name)
    return f"{folder}/{stem}" if stem != name else key


def _best(blocks: Sequence[Sequence[str]], classes: Mapping[str, Collection[Any]], *, adjacent: bool) -> list[int]:
    """Return the blocks to hold out: neighbours if adjacent, otherwise the best of random draws."""
    wanted = max(1, round(SHARE * sum(map(len, blocks))))
    rng = np.random.default_rng(0)
    count = len(blocks)
    orders = [[(start + step) % count for step in range(count)] for start in range(count)]
    if not adjacent:
        orders = [list(range(count))[::-1], *(rng.permutation(count).tolist() for _ in range(_DRAWS))]
    held = [_until(order, blocks, wanted) for order in orders]
    if adjacent:  # a block in the middle needs two cuts, one at the end needs one
        held = [each for each in held if each == sorted(each)][::-1]
    return min(held, key=lambda each: _unevenness(each, blocks, classes, wanted))


def _until(order: Sequence[int], blocks: Sequence[Sequence[str]], wanted: int) -> list[int]:
    chosen: list[int] = []
    for place in order[:-1]:
        chosen.append(place)
        if sum(len(blocks[each]) for each in chosen) >= wanted:
            break
    return chosen


def _unevenness(
    chosen: Sequence[int], blocks: Sequence[Sequence[str]], classes: Mapping[str, Collection[Any]], wanted: int
) -> float:
    """Return how far the held-out share of each class is from SHARE; a class on one side only counts as 1."""
    held = {key for place in chosen for key in blocks[place]}
    every = Counter(number for block in blocks for key in block for number in classes.get(key, ()))
    ours = Counter(number for key in held for number in classes.get(key, ()))
    apart = sum(abs(ours[number] / count - SHARE) + (ours[number] in (0, count)) for number, count in every.items())
    return apart / max(1, len(every)) + abs(len(held) / wanted - 1)
