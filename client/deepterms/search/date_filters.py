"""Date filters: rejects filters that treat a keyword field as a date, which the engines would compare by letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.errors import InvalidInput
from deepterms.schema.date_ranges import explain_keyword_dates, find_date_ranges

__all__ = ["check_date_filter"]


def check_date_filter(cluster: Cluster, name: str, filter: Mapping[str, Any] | None) -> None:
    """Check the fields that a filter compares with date math, ``format`` or ``time_zone``; others cost no request.

    Args:
        cluster: the cluster that holds the index.
        name: the index.
        filter: any query of the engine's query language.

    Raises:
        InvalidInput: such a field holds keywords.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the request.
    """
    asked = {
        field: signs
        for field, signs in find_date_ranges(filter)
        if field.startswith("metadata.") and not set(field) & set(",*")
    }
    if not asked:
        return
    path = build_index_path(name, "/_field_caps")
    answer = cluster.request("GET", path, params={"fields": ",".join(asked)})["fields"]
    for field, signs in asked.items():
        if "keyword" in answer.get(field, {}):
            raise InvalidInput(explain_keyword_dates(field.removeprefix("metadata."), signs))
