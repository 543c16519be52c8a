"""The search-space language: a YAML file of typed parameters, readable without documentation."""

from nasseg.space.load import load_space, space_from_text
from nasseg.space.parameter import Params
from nasseg.space.space import Space

__all__ = ["Params", "Space", "load_space", "space_from_text"]
