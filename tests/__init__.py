"""Tests mirror nasseg/: tests/<folder>/test_<module>.py holds what nasseg/<folder>/<module>.py promises."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HUNG_SECONDS = 600  # that a test waits for something before it fails: no figure of speed, but the sign of a hang
