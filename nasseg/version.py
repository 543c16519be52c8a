"""The version of nasseg, written down here only."""

__version__ = "0.2.0"
