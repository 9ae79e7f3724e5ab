"""Collections with known answers: photographs or descriptors, the queries, and what is right for each of them."""

from deepterms.evaluation.collections.holidays import COLLECTION_FILE, Collection, holidays_judgements, read_holidays
from deepterms.evaluation.collections.judgements import Judgements, read_qrels
from deepterms.evaluation.collections.oxford import Difficulty, read_oxford, read_revisited

__all__ = [
    "COLLECTION_FILE",
    "Collection",
    "Difficulty",
    "Judgements",
    "holidays_judgements",
    "read_holidays",
    "read_oxford",
    "read_qrels",
    "read_revisited",
]
