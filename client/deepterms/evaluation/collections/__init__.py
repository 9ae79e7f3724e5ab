"""Read test collections: photographs or descriptors, queries, and the relevant answers to each query."""

from deepterms.evaluation.collections.holidays import (
    COLLECTION_FILE,
    JudgedCollection,
    holidays_judgements,
    read_holidays,
)
from deepterms.evaluation.collections.judgements import Judgements, read_qrels
from deepterms.evaluation.collections.oxford import Difficulty, read_oxford, read_revisited

__all__ = [
    "COLLECTION_FILE",
    "Difficulty",
    "JudgedCollection",
    "Judgements",
    "holidays_judgements",
    "read_holidays",
    "read_oxford",
    "read_qrels",
    "read_revisited",
]
