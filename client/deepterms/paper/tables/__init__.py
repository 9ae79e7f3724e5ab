"""The timings of the paper's tables, measured again: exhaustive searches, and the limit of the processor."""

from deepterms.paper.tables.synthetic import Collection
from deepterms.paper.tables.table1 import Table1
from deepterms.paper.tables.table2 import Table2

__all__ = ["Collection", "Table1", "Table2"]
