"""`SurrogateIndex`: create, open, fill and search an index by its name."""

from deepterms.index.surrogate_index import DocumentBatch, SurrogateIndex

__all__ = ["DocumentBatch", "SurrogateIndex"]
