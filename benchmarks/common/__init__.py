"""What several benchmarks share: descriptors, filled indices, other engines, and how things are timed."""
