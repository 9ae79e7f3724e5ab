"""Measure the timings in the paper's Tables 1 and 2 with synthetic documents on a cluster."""

from deepterms.paper.tables.synthetic import SyntheticCollection
from deepterms.paper.tables.table1 import Table1
from deepterms.paper.tables.table2 import Table2

__all__ = ["SyntheticCollection", "Table1", "Table2"]
