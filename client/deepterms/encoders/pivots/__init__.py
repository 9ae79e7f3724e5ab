"""Pivot permutations: the nearest of a set of reference descriptors as codewords."""
