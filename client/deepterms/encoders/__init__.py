"""Encoders: descriptors to term frequencies, one module a method."""
