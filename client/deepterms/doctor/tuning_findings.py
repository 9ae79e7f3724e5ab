"""Tuning findings: whether what was measured for the searches of an index still applies."""

from __future__ import annotations

from deepterms.doctor.findings import Finding
from deepterms.schema.tuning import Tuning

__all__ = ["judge_tuning"]

# Recall of the same settings falls slowly as an index grows, and codewords find too few documents in a small one.
GROWN = 2.0
# Documents added since, at least so many times those measured, may be what the pivots do not represent.
SLIGHTLY_GROWN = 1.1
# Comparing so few documents takes about as long as finding some of them by codewords.
FEW_DOCUMENTS = 10_000


def judge_tuning(name: str, tuning: Tuning | None, *, documents: int, drifted: bool = False) -> Finding:
    """Judge whether the recall measured in an index still holds.

    Args:
        name: the alias.
        tuning: what was measured; None if nothing was.
        documents: documents of the index now.
        drifted: whether the pivots no longer represent the documents.
    """
    again = f"measure it again: deepterms tune {name}"
    if tuning is None:
        return Finding("green", name, f"no recall was measured; `deepterms tune {name}` lets searches keep one")
    kept = f"a recall of {tuning.recall:g}"
    if documents > GROWN * max(1, tuning.documents) or documents * GROWN < tuning.documents:
        text = f"{kept} was measured for {tuning.documents:,} documents; there are {documents:,} now"
        return Finding("yellow", name, text, again)
    if drifted and (tuning.source == "sample" or documents > SLIGHTLY_GROWN * tuning.documents):
        text = f"{kept} was measured before the collection drifted away from its pivots"
        return Finding("yellow", name, text, again)
    setting = tuning.choose()
    if setting.compares == "all":
        cost = f", {setting.ms:,.0f} ms each" if setting.ms else ""
        text = f"no faster setting reaches {kept}, so searches compare all documents{cost}"
        if documents <= FEW_DOCUMENTS:
            return Finding("green", name, text)
        return Finding("yellow", name, text, f"ask for less: deepterms tune {name} --recall 0.9; or sample more pivots")
    if tuning.source == "sample":
        text = f"{kept} was simulated on a sample when the index was created; {setting!s}"
        return Finding("green", name, f"{text}; `deepterms tune {name}` measures it")
    where = "before a migration" if tuning.carried else f"with {tuning.queries:,} queries"
    return Finding("green", name, f"searches keep {kept}, measured {where}: {setting}, {setting.ms:.1f} ms")
