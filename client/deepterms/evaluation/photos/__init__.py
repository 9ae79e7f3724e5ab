"""Photographs with known partners out of published packages."""
