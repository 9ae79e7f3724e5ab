"""Doctor: from a cluster to findings, one line each, with advice on everything that is not in order."""

from deepterms.doctor.examination import examine
from deepterms.doctor.findings import Finding

__all__ = ["Finding", "examine"]
