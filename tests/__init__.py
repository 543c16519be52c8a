"""Tests mirror nasseg/: tests/<folder>/test_<module>.py holds what nasseg/<folder>/<module>.py promises."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
