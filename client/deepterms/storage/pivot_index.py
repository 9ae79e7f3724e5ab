"""Pivot indices: stores the pivots of an index in a separate index, and reads and deletes them.

Every concrete index that needs pivots has its own pivot index, named after both:
``deepterms-pivots-v1-3fa94c01-codewords-v1-holidays-000001``. So it belongs to exactly one index, and permissions and
snapshots that select an index by a name pattern select its pivot index too. Concurrent writers write the same
documents: the name contains the first digits of the pivots' checksum, and the id of a chunk is its number.

The pivot index is complete before the index is created, and deleted after it, so whoever finds the index can encode.
An interrupted writer leaves an incomplete pivot index, which the next client that creates that index with the same
pivots completes; nobody else reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepterms.cluster.bulk import BulkLine
from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import OPEN_AND_CLOSED
from deepterms.cluster.templates import describe_override, find_template, list_templates
from deepterms.encoders.pivots.pivots import Pivots, Reach
from deepterms.encoders.spec import explain_errors
from deepterms.errors import ClusterError, InvalidInput, PivotsUnavailable, RequestRejected
from deepterms.schema.assets import PIVOTS_TEMPLATE
from deepterms.schema.index_spec import read_meta
from deepterms.storage.pivot_chunks import ChunkedPivots, count_chunks, count_rows_per_chunk, split_into_chunks

__all__ = [
    "PIVOT_INDEX_PREFIX",
    "PivotIndexMeta",
    "delete_pivot_indices",
    "find_missing_chunks",
    "find_owner",
    "has_gaps",
    "name_pivot_index",
    "read_pivot_index_meta",
    "read_pivots",
    "write_pivots",
]

PIVOT_INDEX_PREFIX = "deepterms-pivots-"  # the prefix of all pivot indices; no layout has this name
VERSION = 1
CHECKSUM_DIGITS = 8
CHUNKS_PER_REQUEST = 8  # of 1 MB
_PREFIX = "deepterms-"


class PivotIndexMeta(BaseModel):
    """A pivot index's metadata, in its mapping."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    companion: str
    version: int = Field(ge=1, le=VERSION)
    pivots: dict[str, Any]
    chunks: int = Field(ge=1)
    rows_per_chunk: int = Field(ge=1)
    reach: dict[str, float] | None = None

    def read_reach(self) -> Reach | None:
        """Read how close the descriptors were to the pivots chosen from them; None if that is not known."""
        if self.reach is None:
            return None
        try:
            return Reach(low=self.reach["low"], middle=self.reach["middle"], rows=int(self.reach["rows"]))
        except KeyError:
            return None  # written by a later release; nothing depends on it


def name_pivot_index(concrete: str, checksum: str) -> str:
    """Name the pivot index that stores these pivots for a concrete index.

    Raises:
        PivotsUnavailable: the checksum is not valid.
    """
    if not re.fullmatch("[0-9a-f]{64}", checksum):  # other characters could change the request path
        raise _build_error(concrete, f"{checksum!r} is not a valid checksum")
    return f"{PIVOTS_TEMPLATE}-{checksum[:CHECKSUM_DIGITS]}-{concrete.removeprefix(_PREFIX)}"


def find_owner(pivot_index: str) -> str | None:
    """Find the concrete index that a pivot index belongs to; None if it is not the name of a pivot index."""
    match = re.fullmatch(rf"{PIVOT_INDEX_PREFIX}v\d+-[0-9a-f]{{{CHECKSUM_DIGITS}}}-(.+)", pivot_index)
    return _PREFIX + match[1] if match else None


def write_pivots(cluster: Cluster, concrete: str, pivots: Pivots, *, reach: Reach | None = None) -> bool:
    """Store the pivots of a concrete index that is about to be created; return when every chunk is acknowledged.

    Args:
        cluster: the cluster.
        concrete: the index.
        pivots: the pivots of its encoder.
        reach: the reach of the pivots, if they do not know it themselves.

    Returns:
        Whether this call created the pivot index; False if it already existed, complete or not.

    Raises:
        ClusterError: its template is not deployed, or a chunk was rejected.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    pivot_index = name_pivot_index(concrete, pivots.checksum)
    rows = count_rows_per_chunk(pivots.dimensions)
    reach = pivots.reach or reach
    meta = PivotIndexMeta(
        companion="pivots",
        version=VERSION,
        pivots=pivots.spec(),
        chunks=count_chunks(len(pivots), rows),
        rows_per_chunk=rows,
        reach=None if reach is None else asdict(reach),
    )
    created = _create(cluster, pivot_index, meta)
    lines = _build_lines(pivots, rows=rows)
    while group := list(islice(lines, CHUNKS_PER_REQUEST)):
        for number, reason in cluster.bulk(group, index=pivot_index).failed:
            raise ClusterError(f"chunk {number} of the pivots in {pivot_index} was rejected: {reason}")
    return created


def read_pivots(cluster: Cluster, concrete: str, described: Mapping[str, Any]) -> Pivots:
    """Read the pivots of a concrete index chunk by chunk, and verify their checksum.

    Args:
        cluster: the cluster.
        concrete: the index.
        described: the spec of the pivots, from that of the encoder.

    Raises:
        PivotsUnavailable: they are missing or damaged.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    pivot_index = name_pivot_index(concrete, str(described.get("checksum")))
    meta = read_pivot_index_meta(cluster, concrete, described)
    try:
        chunked = ChunkedPivots(described, rows=meta.rows_per_chunk)
        if len(chunked) != meta.chunks:
            raise InvalidInput(f"its metadata announces {meta.chunks} chunks; expected {len(chunked)}")
        for numbers in _split(meta.chunks):
            for number, document in zip(numbers, _read_chunks(cluster, pivot_index, numbers), strict=True):
                if not document.get("found"):
                    raise InvalidInput(f"chunk {number} of {meta.chunks} is missing")
                chunked.fill(number, document.get("_source", {}).get("features"))
        return chunked.assemble(reach=meta.read_reach())
    except InvalidInput as error:
        raise _build_error(concrete, f"{pivot_index} is damaged: {error}") from error


def read_pivot_index_meta(cluster: Cluster, concrete: str, described: Mapping[str, Any]) -> PivotIndexMeta:
    """Read the metadata of the pivot index that a concrete index needs.

    Raises:
        PivotsUnavailable: there is no pivot index, or its metadata is invalid or describes other pivots.
    """
    pivot_index = name_pivot_index(concrete, str(described.get("checksum")))
    try:
        answer = cluster.request("GET", f"/{pivot_index}/_mapping")
    except RequestRejected as error:
        if error.status != 404:
            raise
        raise _build_error(concrete, f"there is no index {pivot_index}") from error
    try:
        meta = PivotIndexMeta.model_validate(read_meta(answer.get(pivot_index)) or {})
    except ValidationError as error:
        raise _build_error(
            concrete, f"{pivot_index} has invalid metadata: {explain_errors(error, whole='_meta.deepterms')}"
        ) from error
    if meta.pivots != dict(described):
        raise _build_error(concrete, f"{pivot_index} contains {meta.pivots}; expected {dict(described)}")
    return meta


def find_missing_chunks(cluster: Cluster, concrete: str, described: Mapping[str, Any]) -> list[int]:
    """Find the numbers of missing chunks, without reading the others.

    Raises:
        PivotsUnavailable: there is no pivot index, or its metadata is invalid or describes other pivots.
    """
    meta = read_pivot_index_meta(cluster, concrete, described)
    pivot_index = name_pivot_index(concrete, str(described.get("checksum")))
    return [
        number
        for numbers in _split(meta.chunks, size=1_000)
        for number, document in zip(numbers, _read_chunks(cluster, pivot_index, numbers, source=False), strict=True)
        if not document.get("found")
    ]


def has_gaps(cluster: Cluster, concrete: str, described: Mapping[str, Any]) -> bool:
    """Whether the pivots of a concrete index are missing from the cluster, or incomplete."""
    try:
        return bool(find_missing_chunks(cluster, concrete, described))
    except PivotsUnavailable:
        return True


def delete_pivot_indices(
    cluster: Cluster, concrete: str, *, checksum: str | None = None, keep: str | None = None
) -> None:
    """Delete the pivot indices of a concrete index, including those left by clients that failed to create it.

    Args:
        cluster: the cluster.
        concrete: the index.
        checksum: deletes only the pivot index of these pivots; None deletes all.
        keep: keeps the pivot index of these pivots, which another client needs that has created the index again.
    """
    if checksum is not None:
        found = [name_pivot_index(concrete, checksum)]
    else:
        # By explicit names: a cluster may reject deletions by pattern, and a pattern could match too much.
        pattern = f"/{PIVOT_INDEX_PREFIX}*-{concrete.removeprefix(_PREFIX)}/_mapping"
        kept = None if keep is None else name_pivot_index(concrete, keep)
        found = [
            name
            for name in cluster.request("GET", pattern, params=OPEN_AND_CLOSED)
            if find_owner(name) == concrete and name != kept
        ]
    for pivot_index in found:
        try:
            cluster.request("DELETE", f"/{pivot_index}")
        except RequestRejected as error:
            if error.status != 404:  # another client deleted it first
                raise


def _create(cluster: Cluster, pivot_index: str, meta: PivotIndexMeta) -> bool:
    """Create the index; return False if it already exists with the same pivots."""
    simulated = cluster.request("POST", f"/_index_template/_simulate_index/{pivot_index}")
    if (read_meta(simulated.get("template")) or {}).get("companion") != meta.companion:
        winner = find_template(list_templates(cluster), pivot_index)
        if any(other.get("name") == PIVOTS_TEMPLATE for other in simulated.get("overlapping", ())):
            raise ClusterError(f"{pivot_index} cannot be created: {describe_override(winner, PIVOTS_TEMPLATE)}")
        raise ClusterError(f"the template {PIVOTS_TEMPLATE} is not in the cluster; call deepterms.deploy(client) first")
    expected = meta.model_dump()
    body = {"mappings": {"_meta": {"deepterms": expected}}}
    for _ in range(2):
        try:
            cluster.request("PUT", f"/{pivot_index}", body=body)
            return True
        except RequestRejected as error:
            if "resource_already_exists" not in str(error):
                raise
        held = read_meta(cluster.request("GET", f"/{pivot_index}/_mapping")[pivot_index]) or {}
        if all(held.get(key) == value for key, value in expected.items() if key != "reach"):
            return False
        # If a late request of an interrupted writer made the engine create the index again, it has no metadata.
        if "pivots" in held:
            raise ClusterError(f"{pivot_index} contains other pivots, {held['pivots']}; delete it if no index needs it")
        cluster.request("DELETE", f"/{pivot_index}")
    raise ClusterError(f"another client is creating {pivot_index} without its metadata; try again")


def _build_lines(pivots: Pivots, *, rows: int) -> Iterator[BulkLine]:
    for number, (first_row, text) in enumerate(split_into_chunks(pivots, rows=rows)):
        document = json.dumps({"first_row": first_row, "features": text}, separators=(",", ":"))
        yield {"index": {"_id": str(number)}}, document


def _split(chunks: int, *, size: int = CHUNKS_PER_REQUEST) -> Iterator[range]:
    """Split the numbers of all chunks into one range per request."""
    return (range(start, min(start + size, chunks)) for start in range(0, chunks, size))


def _read_chunks(
    cluster: Cluster, pivot_index: str, numbers: Sequence[int], *, source: bool = True
) -> list[dict[str, Any]]:
    """Read chunks by number, as last written, whether or not the index was refreshed."""
    params = {"_source": "features" if source else "false"}
    answer = cluster.request(
        "POST", f"/{pivot_index}/_mget", body={"ids": [str(number) for number in numbers]}, params=params
    )
    for document in answer["docs"]:
        if "error" in document:
            raise ClusterError(f"the cluster failed to read chunk {document.get('_id')} of {pivot_index}; try again")
    return list(answer["docs"])


def _build_error(concrete: str, reason: str) -> PivotsUnavailable:
    return PivotsUnavailable(
        f"the pivots of {concrete} are unavailable: {reason}. Restore the pivot index from a snapshot, open the index "
        "with the encoder with which it was created (encoder=…), or sample new pivots from the stored vectors: "
        "deepterms migrate NAME --repivot COUNT"
    )
