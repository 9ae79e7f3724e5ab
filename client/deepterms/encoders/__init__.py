"""Encoders: from image descriptors to term frequencies. One module per method."""
