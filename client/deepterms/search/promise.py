"""Promise: chooses, from what was measured in an index, the cheapest setting of a search that keeps a recall."""

from __future__ import annotations

import logging
from dataclasses import replace

from deepterms.errors import InvalidInput
from deepterms.schema.tuning import SearchSetting, Tuning
from deepterms.search.options import SearchOptions

__all__ = ["keep_promise"]

logger = logging.getLogger("deepterms")


def keep_promise(
    options: SearchOptions, *, tuning: Tuning | None, stores_vectors: bool, name: str, warned: set[float]
) -> SearchOptions:
    """Add the setting to the options of a search that keeps the recall asked for, or else that of the index.

    `rerank` and `effort` override it. Where no setting reaches the recall, all documents are compared; a warning says
    so, once per recall.

    Args:
        options: options of the search.
        tuning: what was measured in the index; None if nothing was.
        stores_vectors: whether the index stores vectors.
        name: name of the index, for messages.
        warned: the recalls that a warning was given for; one is added with each warning.

    Raises:
        InvalidInput: a recall is asked for that cannot be kept, because the index has no vectors or the client is to
            re-rank.
    """
    if options.setting is not None or options.rerank is not None or options.effort is not None:
        return options
    if tuning is None and options.recall is None:
        return options
    if not stores_vectors or options.rerank_from is not None:
        if options.recall is None:
            return options
        why = "rerank_from leaves re-ranking to the client" if stores_vectors else "the index stores no vectors"
        raise InvalidInput(
            f"recall={options.recall:g} cannot be kept, because {why}; omit it, and set effort or rerank"
        )
    setting = SearchSetting(compares="all", recall=1.0, bound=1.0) if tuning is None else tuning.choose(options.recall)
    recall = options.recall if options.recall is not None or tuning is None else tuning.recall
    if setting.compares == "all" and recall is not None and recall not in warned:
        warned.add(recall)
        why = "no recall was measured" if tuning is None else f"no measured setting reaches a recall of {recall:g}"
        cost = f", about {setting.ms:,.0f} ms each" if setting.ms else ""
        advice = "run tune()" if tuning is None or tuning.source == "sample" else "ask for a lower recall"
        logger.warning("%s: %s, so searches compare all documents%s; %s for less", name, why, cost, advice)
    return replace(options, setting=setting)
