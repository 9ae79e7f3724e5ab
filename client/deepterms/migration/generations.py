"""Generations: the concrete indices of one name, which of them it points to, and where it points next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.encoders.pivots.pivots import Reach
from deepterms.errors import ClusterError, IndexNotFound, MigrationFailed, PivotsUnavailable, RequestRejected
from deepterms.migration.pinning import unpin
from deepterms.schema.index_spec import IndexMeta, IndexSpec, read_meta
from deepterms.storage.concrete_index import create_concrete, delete_concrete, list_concrete_indices
from deepterms.storage.pivot_index import read_pivot_index_meta

__all__ = [
    "Generations",
    "count_documents",
    "count_shards",
    "read_settings",
    "unblock",
    "write_origin",
]

# Settings that users may have given the old index and that the new one gets too.
KEPT_SETTINGS = ("number_of_shards", "number_of_replicas", "auto_expand_replicas")


@dataclass(frozen=True)
class Generations:
    """The concrete indices of one name.

    Attributes:
        name: the alias.
        live: the concrete index that it points to.
        metas: what each concrete index of the name says of itself.
    """

    name: str
    live: str
    metas: Mapping[str, IndexMeta]

    @classmethod
    def of(cls, cluster: Cluster, name: str) -> Generations:
        """As the cluster has them now."""
        quoted = build_index_path(name).removeprefix("/")
        try:
            pointed = list(cluster.request("GET", f"/_alias/{quoted}"))
        except RequestRejected as error:
            if error.status != 404:
                raise
            if cluster.request("HEAD", f"/{quoted}"):
                raise ClusterError(f"{name!r} is an index itself, not the alias of one; give the alias") from error
            raise IndexNotFound(f"no index {name!r} in the cluster") from error
        if len(pointed) != 1:
            raise ClusterError(f"{name!r} points to {', '.join(sorted(pointed))}; expected one index")
        found = list_concrete_indices(cluster, name)
        if "encoder" not in (read_meta(found.get(pointed[0])) or {}):
            raise ClusterError(
                f"{name!r} points to {pointed[0]}, which deepterms did not create under that name, or which this user "
                "has no right to see"
            )
        # Others may be of a release that this one cannot read; what cannot be read is left alone.
        metas = {
            concrete: IndexMeta.parse(read_meta(answer), name=concrete)
            for concrete, answer in found.items()
            if concrete == pointed[0] or "encoder" in (read_meta(answer) or {})
        }
        return cls(name, pointed[0], metas)

    @property
    def meta(self) -> IndexMeta:
        """Of the index that the name points to."""
        return self.metas[self.live]

    @property
    def unfinished(self) -> list[str]:
        """Copies of the live index that the name was never moved to."""
        origins = {concrete: meta.migration for concrete, meta in self.metas.items()}
        return [
            concrete for concrete, origin in origins.items() if origin.get("from") == self.live and "left" not in origin
        ]

    def prepare(self, cluster: Cluster, spec: IndexSpec, *, shards: int | None) -> tuple[str, bool]:
        """The index of that spec to copy into, and whether there may be something in it."""
        settings = read_settings(cluster, self.live)
        if shards is not None:
            settings["number_of_shards"] = str(shards)
        free: set[str] = set()
        for concrete in self.unfinished:
            same = count_shards(cluster, concrete) == int(settings["number_of_shards"])
            if not same or not self.metas[concrete].describes(spec):
                raise MigrationFailed(
                    f"a migration of {self.name!r} to {concrete} is unfinished and was asked for something else; "
                    f"finish that one, or delete it with: deepterms migrate {self.name} --drop-old"
                )
            unblock(cluster, self.live)  # it was cut at the last moment
            settings.pop("blocks", None)
            cluster.request("POST", f"/{concrete}/_refresh")
            if count_documents(cluster, concrete):
                return concrete, True
            delete_concrete(cluster, concrete)  # perhaps cut in the middle of its making
            free.add(concrete)
        if "write" in settings.get("blocks", {}):
            raise MigrationFailed(
                f"{self.live} is blocked for writing by somebody; migrating would open it again. Remove the block "
                "(index.blocks.write) first"
            )
        generation = 1 + max(int(concrete.rpartition("-")[2]) for concrete in self.metas.keys() - free)
        target = spec.layout.index_name(self.name, generation=generation)
        mapping = cluster.request("GET", f"/{self.live}/_mapping")[self.live]["mappings"]
        # Users' own fields keep their types: guessed again, from other documents first, they could differ.
        properties = {key: field for key, field in mapping["properties"].items() if key == "metadata"}
        kept = {key: settings[key] for key in KEPT_SETTINGS if key in settings}
        kept["refresh_interval"] = "-1"  # nobody searches it yet
        create_concrete(
            cluster,
            target,
            spec=spec,
            settings=kept,
            properties=properties,
            origin={"from": self.live},
            reach=self._reach(cluster, spec),
        )
        return target, False

    def _reach(self, cluster: Cluster, spec: IndexSpec) -> Reach | None:
        """Of pivots that stay, as the live index's companion has it: a file on this machine has the pivots alone."""
        described = spec.encoder.spec().get("pivots")
        if not described or described != self.meta.encoder.get("pivots"):
            return None
        try:
            return read_pivot_index_meta(cluster, self.live, described).read_reach()
        except PivotsUnavailable:
            return None

    def point_to(self, cluster: Cluster, concrete: str) -> None:
        """Move every alias of the live index to another, in one request."""
        aliases = cluster.request("GET", f"/{self.live}/_alias")[self.live]["aliases"]
        actions = [{"remove": {"index": self.live, "alias": alias}} for alias in aliases]
        actions += [{"add": {"index": concrete, "alias": alias, **how}} for alias, how in aliases.items()]
        cluster.request("POST", "/_aliases", body={"actions": actions})

    def drop_others(self, cluster: Cluster) -> tuple[str, ...]:
        """Delete every concrete index but the live one."""
        if self.unfinished:
            unblock(cluster, self.live)  # perhaps cut at the last moment
            unpin(cluster, self.live)
        others = tuple(concrete for concrete in self.metas if concrete != self.live)
        for concrete in others:
            delete_concrete(cluster, concrete)
        return others


def unblock(cluster: Cluster, concrete: str) -> None:
    """Allow writes to an index again."""
    cluster.request("PUT", f"/{concrete}/_settings", body={"index.blocks.write": None})


def read_settings(cluster: Cluster, concrete: str) -> dict[str, Any]:
    """An index's own settings."""
    return dict(cluster.request("GET", f"/{concrete}/_settings")[concrete]["settings"]["index"])


def count_shards(cluster: Cluster, concrete: str) -> int:
    """How many primary shards an index has."""
    return int(read_settings(cluster, concrete)["number_of_shards"])


def count_documents(cluster: Cluster, concrete: str) -> int:
    """How many documents of an index are visible to search."""
    return int(cluster.request("POST", f"/{concrete}/_count")["count"])


def write_origin(cluster: Cluster, concrete: str, origin: Mapping[str, Any]) -> None:
    """Say in an index's mapping what it was copied from."""
    meta = read_meta(cluster.request("GET", f"/{concrete}/_mapping")[concrete]) or {}
    body = {"_meta": {"deepterms": {**meta, "migration": dict(origin)}}}
    cluster.request("PUT", f"/{concrete}/_mapping", body=body)
