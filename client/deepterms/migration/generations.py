"""Generations: the concrete indices of one name, which of them it points to, and where it points next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import meta_of
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pivots.pivots import Reach
from deepterms.errors import ClusterError, IndexNotFound, MigrationFailed, PivotsUnavailable, RequestRejected
from deepterms.migration.pinning import unpin
from deepterms.schema.layouts import Layout
from deepterms.storage.concrete_index import concretes_of, create_concrete, delete_concrete, index_path
from deepterms.storage.pivot_index import read_companion_meta

__all__ = [
    "Generations",
    "document_count",
    "index_settings",
    "shard_count",
    "unblock",
    "without_origin",
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
    metas: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, cluster: Cluster, name: str) -> Generations:
        """As the cluster has them now."""
        quoted = index_path(name).removeprefix("/")
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
        metas = {concrete: meta_of(answer) or {} for concrete, answer in concretes_of(cluster, name).items()}
        if "encoder" not in metas.get(pointed[0], {}):
            raise ClusterError(
                f"{name!r} points to {pointed[0]}, which was not made by deepterms under that name, or which this user "
                "may not see"
            )
        return cls(name, pointed[0], metas)

    @property
    def meta(self) -> Mapping[str, Any]:
        """Of the index that the name points to."""
        return self.metas[self.live]

    @property
    def unfinished(self) -> list[str]:
        """Copies of the live index that the name was never moved to."""
        origins = {concrete: meta.get("migration", {}) for concrete, meta in self.metas.items()}
        return [
            concrete for concrete, origin in origins.items() if origin.get("from") == self.live and "left" not in origin
        ]

    def prepare(
        self, cluster: Cluster, *, layout: Layout, encoder: Encoder, wanted: Mapping[str, Any], shards: int | None
    ) -> tuple[str, bool]:
        """The index to copy into, and whether there may be something in it."""
        settings = index_settings(cluster, self.live)
        if shards is not None:
            settings["number_of_shards"] = str(shards)
        free: set[str] = set()
        for concrete in self.unfinished:
            same = shard_count(cluster, concrete) == int(settings["number_of_shards"])
            if not same or without_origin(self.metas[concrete]) != wanted:
                raise MigrationFailed(
                    f"a migration of {self.name!r} to {concrete} is unfinished and was asked for something else; "
                    f"finish that one, or delete it with: deepterms migrate {self.name} --drop-old"
                )
            unblock(cluster, self.live)  # it was cut at the last moment
            settings.pop("blocks", None)
            cluster.request("POST", f"/{concrete}/_refresh")
            if document_count(cluster, concrete):
                return concrete, True
            delete_concrete(cluster, concrete)  # perhaps cut in the middle of its making
            free.add(concrete)
        if "write" in settings.get("blocks", {}):
            raise MigrationFailed(
                f"{self.live} is blocked for writing by somebody; migrating would open it again. Remove the block "
                "(index.blocks.write) first"
            )
        generation = 1 + max(int(concrete.rpartition("-")[2]) for concrete in self.metas.keys() - free)
        target = layout.index_name(self.name, generation=generation)
        mapping = cluster.request("GET", f"/{self.live}/_mapping")[self.live]["mappings"]
        mappings: dict[str, Any] = {"_meta": {"deepterms": {**wanted, "migration": {"from": self.live}}}}
        if metadata := mapping["properties"].get("metadata"):
            # Users' own fields keep their types: guessed again, from other documents first, they could differ.
            mappings["properties"] = {"metadata": metadata}
        kept = {key: settings[key] for key in KEPT_SETTINGS if key in settings}
        kept["refresh_interval"] = "-1"  # nobody searches it yet
        create_concrete(
            cluster,
            target,
            layout=layout,
            encoder=encoder,
            settings=kept,
            mappings=mappings,
            reach=self._reach(cluster, wanted["encoder"]),
        )
        return target, False

    def _reach(self, cluster: Cluster, spec: Mapping[str, Any]) -> Reach | None:
        """Of pivots that stay, as the live index's companion says it: a file on this machine knows the pivots alone."""
        described = spec.get("pivots")
        if not described or described != self.meta["encoder"].get("pivots"):
            return None
        try:
            return read_companion_meta(cluster, self.live, described).known_reach()
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


def index_settings(cluster: Cluster, concrete: str) -> dict[str, Any]:
    """An index's own settings."""
    return dict(cluster.request("GET", f"/{concrete}/_settings")[concrete]["settings"]["index"])


def shard_count(cluster: Cluster, concrete: str) -> int:
    """How many primary shards an index has."""
    return int(index_settings(cluster, concrete)["number_of_shards"])


def document_count(cluster: Cluster, concrete: str) -> int:
    """How many documents of an index are visible to search."""
    return int(cluster.request("POST", f"/{concrete}/_count")["count"])


def write_origin(cluster: Cluster, concrete: str, origin: Mapping[str, Any]) -> None:
    """Say in an index's mapping what it was copied from."""
    meta = meta_of(cluster.request("GET", f"/{concrete}/_mapping")[concrete]) or {}
    body = {"_meta": {"deepterms": {**meta, "migration": dict(origin)}}}
    cluster.request("PUT", f"/{concrete}/_mapping", body=body)


def without_origin(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What an index says of itself, less what it was copied from."""
    return {key: value for key, value in meta.items() if key != "migration"}
