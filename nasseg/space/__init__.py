"""The search-space language: which architectures there are, as a YAML file that reads without documentation."""

from nasseg.space.load import load_space, space_from_text
from nasseg.space.parameter import Params
from nasseg.space.space import Space

__all__ = ["Params", "Space", "load_space", "space_from_text"]
