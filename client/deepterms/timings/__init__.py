"""The timings of the paper's tables, measured again: exhaustive searches, and the limit of the processor."""

from deepterms.timings.collection import Collection
from deepterms.timings.table1 import Table1
from deepterms.timings.table2 import Table2

__all__ = ["Collection", "Table1", "Table2"]
