"""Stored indices: concrete indices with their pipelines and pivots, and the encoders rebuilt from them."""
