"""What finished trials say: the front, hypervolume, tables."""
