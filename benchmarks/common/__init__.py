"""Shared by the benchmarks: descriptors, filled indices, other engines and timing."""
