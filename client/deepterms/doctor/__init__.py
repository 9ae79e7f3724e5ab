"""A cluster, and what is wrong with it: one line a finding, with advice."""

from deepterms.doctor.examination import examine
from deepterms.doctor.findings import Finding

__all__ = ["Finding", "examine"]
