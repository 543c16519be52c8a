"""Results computed from finished trials: the front, hypervolume, tables."""
