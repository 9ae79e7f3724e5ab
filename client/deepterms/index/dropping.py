"""Dropping: deletes everything that belongs to a name, and resumes after an interruption at any point."""

from __future__ import annotations

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.errors import ClusterError, IndexNotFound, RequestRejected
from deepterms.schema.index_spec import read_meta
from deepterms.storage.concrete_index import delete_concrete, delete_remains, list_concrete_indices

__all__ = ["drop_index"]


def drop_index(cluster: Cluster, name: str, *, must_exist: bool) -> None:
    """Delete the index behind a name, older and unfinished ones of that name, and what interrupted calls left.

    The index that the name points to is deleted last, so after an interruption the name can still be opened until
    nothing else is left of it.

    Args:
        cluster: the cluster.
        name: the alias, or the concrete index.
        must_exist: raise an error if there is no such name, before anything is deleted.

    Raises:
        IndexNotFound: nothing of this name exists.
        ClusterError: the name points to several indices, or to one that deepterms did not create.
    """
    behind = {}
    try:
        behind = cluster.request("GET", build_index_path(name))
    except RequestRejected as error:
        if error.status != 404 or must_exist:
            raise
    foreign = [concrete for concrete, answer in behind.items() if not read_meta(answer)]
    if behind and (foreign or len(behind) != 1):
        raise ClusterError(
            f"{name!r} points to {', '.join(sorted(behind))}; expected one index that deepterms created. "
            "Nothing was deleted: remove the alias from the others first"
        )
    left = {
        concrete
        for concrete, answer in list_concrete_indices(cluster, name).items()
        if not answer["aliases"] and concrete not in behind and read_meta(answer)
    }
    for concrete in [*sorted(left), *behind]:
        delete_concrete(cluster, concrete)
    remains = delete_remains(cluster, name)
    if not (behind or left or remains):
        raise IndexNotFound(f"no index {name!r} in the cluster, and nothing that one has left")
