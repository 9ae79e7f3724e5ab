"""Pivot encoders: from a descriptor to its nearest reference descriptors, the pivots, which serve as codewords."""
