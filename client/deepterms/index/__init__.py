"""An index behind a name: what users create, open, write to and search."""

from deepterms.index.surrogate_index import DocumentBatch, SurrogateIndex

__all__ = ["DocumentBatch", "SurrogateIndex"]
