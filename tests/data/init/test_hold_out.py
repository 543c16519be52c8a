"""Images are held out so that nothing leaks and classes are on both sides."""

import pytest

from nasseg.data.init.hold_out import hold_out, sequence_of


@pytest.mark.parametrize(
    ("key", "sequence"),
    [
        ("0016E5_07959", "/0016E5"),
        ("aachen/aachen_000000_000019", "aachen/aachen_000000"),
        ("frame12", "/frame"),
        ("cat", "cat"),
        ("drive/cat", "drive/cat"),
    ],
)
def test_the_sequence_of_a_frame(key, sequence):
    assert sequence_of(key) == sequence


def test_frames_of_a_sequence_stay_on_one_side():
    keys = [f"{drive}_{frame}" for drive in "abcdefgh" for frame in range(5)]
    held, how = hold_out(keys, {})
    assert len(held) in (5, 10)
    drives = {key[0] for key in held}
    assert all(f"{drive}_{frame}" in held for drive in drives for frame in range(5))
    assert "whole sequences of 8" in how


def test_one_sequence_is_cut_once():
    keys = [f"{number:04d}" for number in range(50)]
    held, how = hold_out(keys, {})
    assert held == keys[40:]
    assert "one block of neighbouring images" in how


def test_every_class_is_on_both_sides():
    """Class 7 is in three of 60 images only, of different names."""
    keys = [f"{first}{second}" for first in "abcdefghij" for second in "uvwxyz"]
    classes = {key: [0, 7] if key in ("au", "bv", "jz") else [0, 1] for key in keys}
    held, _ = hold_out(keys, classes)
    assert 10 <= len(held) <= 14
    rare = {"au", "bv", "jz"}
    assert rare & set(held)
    assert rare - set(held)


def test_a_block_is_chosen_that_holds_every_class():
    """The last fifth of the frames has no class 1, an earlier one has."""
    keys = [f"{number:04d}" for number in range(50)]
    classes = {key: [0, 1] if int(key) < 35 else [0] for key in keys}
    held, _ = hold_out(keys, classes)
    assert any(1 in classes[key] for key in held)
    numbers = [int(key) for key in held]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
