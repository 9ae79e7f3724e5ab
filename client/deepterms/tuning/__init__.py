"""Tuning: chooses an encoder by measuring on a sample, and settings of searches by measuring an index."""
