"""Generations: lists the concrete indices of one name, creates the next one, and moves the name to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import explain_closed, is_closed
from deepterms.encoders.pivots.pivots import Reach
from deepterms.errors import ClusterError, IndexNotFound, MigrationFailed, PivotsUnavailable, RequestRejected
from deepterms.migration.pinning import unpin
from deepterms.schema.index_spec import IndexMeta, IndexSpec, read_meta
from deepterms.schema.metadata_schema import carry_over
from deepterms.schema.tuning import Tuning
from deepterms.storage.concrete_index import create_concrete, delete_concrete, list_concrete_indices
from deepterms.storage.pivot_index import read_pivot_index_meta

__all__ = [
    "Generations",
    "count_documents",
    "count_shards",
    "read_settings",
    "require_open",
    "unblock",
    "write_origin",
]

# Settings of the old index that the new one keeps.
KEPT_SETTINGS = ("number_of_shards", "number_of_replicas", "auto_expand_replicas", "mapping")


@dataclass(frozen=True)
class Generations:
    """The concrete indices of one name.

    Attributes:
        name: the alias.
        live: the concrete index that it points to.
        uuid: of that index.
        metas: concrete index of the name → its metadata.
    """

    name: str
    live: str
    uuid: str
    metas: Mapping[str, IndexMeta]

    @classmethod
    def of(cls, cluster: Cluster, name: str) -> Generations:
        """Read the current generations of a name from the cluster.

        Raises:
            IndexNotFound: there is no such name.
            ClusterError: it is not an alias of exactly one index that deepterms created.
        """
        quoted = build_index_path(name).removeprefix("/")
        try:
            pointed = list(cluster.request("GET", f"/_alias/{quoted}"))
        except RequestRejected as error:
            if error.status != 404:
                raise
            if cluster.request("HEAD", f"/{quoted}"):
                raise ClusterError(f"{name!r} is an index; expected its alias") from error
            raise IndexNotFound(f"no index {name!r} in the cluster") from error
        if len(pointed) != 1:
            raise ClusterError(f"{name!r} points to {', '.join(sorted(pointed))}; expected one index")
        found = list_concrete_indices(cluster, name)
        if "encoder" not in (read_meta(found.get(pointed[0])) or {}):
            raise ClusterError(
                f"{name!r} points to {pointed[0]}, which deepterms did not create for that name, or which this user "
                "is not permitted to read"
            )
        # Indices without an encoder in their metadata are not ours, and stay untouched.
        metas = {
            concrete: IndexMeta.parse(read_meta(answer), name=concrete)
            for concrete, answer in found.items()
            if concrete == pointed[0] or "encoder" in (read_meta(answer) or {})
        }
        uuid = str(found[pointed[0]]["settings"]["index"]["uuid"])
        return cls(name, pointed[0], uuid, metas)

    @property
    def meta(self) -> IndexMeta:
        """The metadata of the index that the name points to."""
        return self.metas[self.live]

    @property
    def unfinished(self) -> list[str]:
        """Copies of the live index that the name was never moved to."""
        return [
            concrete
            for concrete, meta in self.metas.items()
            if meta.migration.items() >= self.origin.items() and "left" not in meta.migration
        ]

    @property
    def origin(self) -> dict[str, str]:
        """What the metadata of a copy of the live index holds; one that is created again has another UUID."""
        return {"from": self.live, "uuid": self.uuid}

    def prepare(self, cluster: Cluster, spec: IndexSpec, *, shards: int | None) -> tuple[str, bool]:
        """Find an unfinished copy with that spec, or create the next index.

        Returns:
            The index to copy into, and whether it may already contain documents.

        Raises:
            MigrationFailed: an unfinished copy has another spec, or writes to the live index are blocked.
        """
        settings = read_settings(cluster, self.live)
        if shards is not None:
            settings["number_of_shards"] = str(shards)
        free: set[str] = set()
        for concrete in self.unfinished:
            same = count_shards(cluster, concrete) == int(settings["number_of_shards"])
            if not same or not self.metas[concrete].describes(spec):
                raise MigrationFailed(
                    f"an unfinished migration of {self.name!r} to {concrete} has other options; rerun it with the same "
                    f"options, or delete it with: deepterms migrate {self.name} --drop-old"
                )
            unblock(cluster, self.live)  # in case it was interrupted while writes were blocked
            settings.pop("blocks", None)
            cluster.request("POST", f"/{concrete}/_refresh")
            if count_documents(cluster, concrete):
                return concrete, True
            delete_concrete(cluster, concrete)  # its creation may have been interrupted
            free.add(concrete)
        if "write" in settings.get("blocks", {}):
            raise MigrationFailed(
                f"writes to {self.live} are blocked, and a migration would unblock them. Remove the block "
                "(index.blocks.write) first"
            )
        generation = 1 + max(int(concrete.rpartition("-")[2]) for concrete in self.metas.keys() - free)
        target = spec.layout.index_name(self.name, generation=generation)
        mapping = cluster.request("GET", f"/{self.live}/_mapping")[self.live]["mappings"]
        learnt = dict(mapping["properties"].get("metadata", {}))
        learnt["properties"] = carry_over(learnt.get("properties", {}), declared=self.meta.declared)
        kept = {key: settings[key] for key in KEPT_SETTINGS if key in settings}
        kept["refresh_interval"] = "-1"  # not searched yet
        create_concrete(
            cluster,
            target,
            spec=spec,
            settings=kept,
            learnt=learnt,
            origin=self.origin,
            reach=self._read_reach(cluster, spec),
            tuning=self._carry_tuning(spec, same_shards=shards is None or shards == count_shards(cluster, self.live)),
        )
        return target, False

    def _carry_tuning(self, spec: IndexSpec, *, same_shards: bool) -> Tuning | None:
        """Carry over what was measured for searches; None if they find something else in an index with that spec.

        They find the same if codewords, vectors and sketches are the same, and as many shards re-rank candidates.
        """
        held, meta = Tuning.parse(self.meta.tuning), self.meta
        same = (spec.encoder.spec(), spec.vector_type, spec.sketch) == (meta.encoder, meta.vector_type, meta.sketch)
        return held.model_copy(update={"carried": True}) if held is not None and same and same_shards else None

    def _read_reach(self, cluster: Cluster, spec: IndexSpec) -> Reach | None:
        """Read the reach of kept pivots from the live index's pivot index; cached pivots do not contain it."""
        described = spec.encoder.spec().get("pivots")
        if not described or described != self.meta.encoder.get("pivots"):
            return None
        try:
            return read_pivot_index_meta(cluster, self.live, described).read_reach()
        except PivotsUnavailable:
            return None

    def point_to(self, cluster: Cluster, concrete: str) -> None:
        """Move every alias of the live index to another index, in one request."""
        aliases = cluster.request("GET", f"/{self.live}/_alias")[self.live]["aliases"]
        actions = [{"remove": {"index": self.live, "alias": alias}} for alias in aliases]
        actions += [{"add": {"index": concrete, "alias": alias, **options}} for alias, options in aliases.items()]
        try:
            cluster.request("POST", "/_aliases", body={"actions": actions})
        except RequestRejected:
            # A client library repeats a request if the response was lost; the second one finds nothing to remove.
            now = cluster.request("GET", f"/{concrete}/_alias")[concrete]["aliases"]
            before = cluster.request("GET", f"/{self.live}/_alias")[self.live]["aliases"]
            if before or not aliases.keys() <= now.keys():
                raise

    def drop_others(self, cluster: Cluster) -> tuple[str, ...]:
        """Delete all concrete indices except the live one; return their names."""
        if self.unfinished:
            unblock(cluster, self.live)  # in case the migration was interrupted while writes were blocked
            unpin(cluster, self.live)
        others = tuple(concrete for concrete in self.metas if concrete != self.live)
        for concrete in others:
            delete_concrete(cluster, concrete)
        return others


def unblock(cluster: Cluster, concrete: str) -> None:
    """Allow writes to an index again."""
    cluster.request("PUT", f"/{concrete}/_settings", body={"index.blocks.write": None})


def require_open(cluster: Cluster, concrete: str) -> None:
    """Raise ClusterError if an index is closed."""
    if is_closed(cluster.request("GET", f"/{concrete}/_settings")[concrete]):
        raise ClusterError(explain_closed(concrete))


def read_settings(cluster: Cluster, concrete: str) -> dict[str, Any]:
    """Read the settings of an index."""
    return dict(cluster.request("GET", f"/{concrete}/_settings")[concrete]["settings"]["index"])


def count_shards(cluster: Cluster, concrete: str) -> int:
    """Count the primary shards of an index."""
    return int(read_settings(cluster, concrete)["number_of_shards"])


def count_documents(cluster: Cluster, concrete: str) -> int:
    """Count the documents of an index that are visible to search."""
    return cluster.count(concrete)


def write_origin(cluster: Cluster, concrete: str, origin: Mapping[str, Any]) -> None:
    """Record in an index's mapping what it was copied from."""
    meta = read_meta(cluster.request("GET", f"/{concrete}/_mapping")[concrete]) or {}
    body = {"_meta": {"deepterms": {**meta, "migration": dict(origin)}}}
    cluster.request("PUT", f"/{concrete}/_mapping", body=body)
