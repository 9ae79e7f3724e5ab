"""The companion of an index: its pivots, in an index of their own beside it.

Each concrete index that needs pivots has its own copy of them, named after both:
``deepterms-pivots-v1-3fa94c01-codewords-v1-holidays-000001``. So it belongs to one index, whoever deletes that may
delete it, and whoever may read or restore the one by its name's pattern may so the other. Two who write one at once
write the same: its name has the beginning of the pivots' checksum, and a chunk's id is its number.

It is complete before the index is made, and deleted before the index is. A writer that is cut leaves a set that is
completed by the next who creates that index with the same pivots; nothing else ever reads it.
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
    "name_pivot_index",
    "read_pivot_index_meta",
    "read_pivots",
    "write_pivots",
]

PIVOT_INDEX_PREFIX = "deepterms-pivots-"  # with what every companion's name begins; no layout is called so
VERSION = 1
CHECKSUM_DIGITS = 8
CHUNKS_PER_REQUEST = 8  # of 1 MB
_PREFIX = "deepterms-"


class PivotIndexMeta(BaseModel):
    """What a companion says of itself in its mapping."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    companion: str
    version: int = Field(ge=1, le=VERSION)
    pivots: dict[str, Any]
    chunks: int = Field(ge=1)
    rows_per_chunk: int = Field(ge=1)
    reach: dict[str, float] | None = None

    def known_reach(self) -> Reach | None:
        """How near to the pivots the descriptors lay from which they were chosen; None if that is not known."""
        if self.reach is None:
            return None
        try:
            return Reach(low=self.reach["low"], middle=self.reach["middle"], rows=int(self.reach["rows"]))
        except KeyError:
            return None  # of a later release: nothing depends on it


def name_pivot_index(concrete: str, checksum: str) -> str:
    """Of the companion that holds such pivots for one concrete index.

    Raises:
        PivotsUnavailable: that is no checksum.
    """
    if not re.fullmatch("[0-9a-f]{64}", checksum):  # which would make a path of the name
        raise _unavailable(concrete, f"{checksum!r} is no checksum")
    return f"{PIVOTS_TEMPLATE}-{checksum[:CHECKSUM_DIGITS]}-{concrete.removeprefix(_PREFIX)}"


def find_owner(companion: str) -> str | None:
    """The concrete index that a companion is for; None if it is no companion's name."""
    match = re.fullmatch(rf"{PIVOT_INDEX_PREFIX}v\d+-[0-9a-f]{{{CHECKSUM_DIGITS}}}-(.+)", companion)
    return _PREFIX + match[1] if match else None


def write_pivots(cluster: Cluster, concrete: str, pivots: Pivots, *, reach: Reach | None = None) -> bool:
    """Store the pivots of a concrete index that is to be made; returns when every chunk is acknowledged.

    Args:
        cluster: where.
        concrete: the index.
        pivots: of its encoder.
        reach: of the pivots, where they do not know it themselves.

    Returns:
        Whether this call made the companion: otherwise it was there already, whole or in part.

    Raises:
        ClusterError: its template is not deployed, or a chunk was refused.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    companion = name_pivot_index(concrete, pivots.checksum)
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
    made = _make(cluster, companion, meta)
    lines = _lines(pivots, rows=rows)
    while group := list(islice(lines, CHUNKS_PER_REQUEST)):
        for number, why in cluster.bulk(group, index=companion).failed:
            raise ClusterError(f"chunk {number} of the pivots in {companion} was rejected: {why}")
    return made


def read_pivots(cluster: Cluster, concrete: str, described: Mapping[str, Any]) -> Pivots:
    """The pivots of a concrete index, read chunk by chunk and compared with their checksum.

    Args:
        cluster: where.
        concrete: the index.
        described: what the spec of its encoder says of them.

    Raises:
        PivotsUnavailable: they are not there, or damaged.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    companion = name_pivot_index(concrete, str(described.get("checksum")))
    meta = read_pivot_index_meta(cluster, concrete, described)
    try:
        chunked = ChunkedPivots(described, rows=meta.rows_per_chunk)
        if len(chunked) != meta.chunks:
            raise InvalidInput(f"{meta.chunks} chunks are announced; {len(chunked)} are needed")
        for numbers in _requests(meta.chunks):
            for number, document in zip(numbers, _documents(cluster, companion, numbers), strict=True):
                if not document.get("found"):
                    raise InvalidInput(f"chunk {number} of {meta.chunks} is missing")
                chunked.fill(number, document.get("_source", {}).get("features"))
        return chunked.whole(reach=meta.known_reach())
    except InvalidInput as error:
        raise _unavailable(concrete, f"{companion} is damaged: {error}") from error


def read_pivot_index_meta(cluster: Cluster, concrete: str, described: Mapping[str, Any]) -> PivotIndexMeta:
    """What the companion that a concrete index needs says of itself.

    Raises:
        PivotsUnavailable: there is none, or it does not say that it holds these pivots.
    """
    companion = name_pivot_index(concrete, str(described.get("checksum")))
    try:
        answer = cluster.request("GET", f"/{companion}/_mapping")
    except RequestRejected as error:
        if error.status != 404:
            raise
        raise _unavailable(concrete, f"there is no index {companion}") from error
    said = read_meta(answer.get(companion)) or {}
    try:
        meta = PivotIndexMeta.model_validate(said)
    except ValidationError as error:
        raise _unavailable(
            concrete, f"{companion} does not say what it holds: {explain_errors(error, whole='_meta.deepterms')}"
        ) from error
    if meta.pivots != dict(described):
        raise _unavailable(concrete, f"{companion} holds {meta.pivots}; expected {dict(described)}")
    return meta


def find_missing_chunks(cluster: Cluster, concrete: str, described: Mapping[str, Any]) -> list[int]:
    """The numbers of the chunks that a companion lacks, without reading the others.

    Raises:
        PivotsUnavailable: there is no companion, or it does not say what it holds.
    """
    meta = read_pivot_index_meta(cluster, concrete, described)
    companion = name_pivot_index(concrete, str(described.get("checksum")))
    return [
        number
        for numbers in _requests(meta.chunks, size=1_000)
        for number, document in zip(numbers, _documents(cluster, companion, numbers, source=False), strict=True)
        if not document.get("found")
    ]


def delete_pivot_indices(cluster: Cluster, concrete: str, *, checksum: str | None = None) -> None:
    """Delete what holds pivots for a concrete index, also what others left who did not get to make it.

    Args:
        cluster: where.
        concrete: the index; call this before it is deleted itself, so that nobody makes it anew in between.
        checksum: only the companion of these pivots; default: all.
    """
    if checksum is not None:
        found = [name_pivot_index(concrete, checksum)]
    else:
        # By explicit names: a cluster may refuse to delete by a pattern, and a pattern could say more than is meant.
        pattern = f"/{PIVOT_INDEX_PREFIX}*-{concrete.removeprefix(_PREFIX)}/_mapping"
        found = [name for name in cluster.request("GET", pattern) if find_owner(name) == concrete]
    for companion in found:
        try:
            cluster.request("DELETE", f"/{companion}")
        except RequestRejected as error:
            if error.status != 404:  # somebody else was quicker
                raise


def _make(cluster: Cluster, companion: str, meta: PivotIndexMeta) -> bool:
    """Create the index, unless it is there with the same pivots."""
    simulated = cluster.request("POST", f"/_index_template/_simulate_index/{companion}")
    if (read_meta(simulated.get("template")) or {}).get("companion") != meta.companion:
        raise ClusterError(
            f"the template {PIVOTS_TEMPLATE} is not in the cluster, or another one overrides it for {companion}; "
            "call deepterms.deploy(client) first, or narrow the other's patterns"
        )
    said = meta.model_dump()
    body = {"mappings": {"_meta": {"deepterms": said}}}
    for _ in range(2):
        try:
            cluster.request("PUT", f"/{companion}", body=body)
            return True
        except RequestRejected as error:
            if "resource_already_exists" not in str(error):
                raise
        held = read_meta(cluster.request("GET", f"/{companion}/_mapping")[companion]) or {}
        if all(held.get(key) == value for key, value in said.items() if key != "reach"):
            return False
        # A writer that was cut, and whose late request made the engine create the index again, leaves no description.
        if "pivots" in held:
            raise ClusterError(f"{companion} holds other pivots, {held['pivots']}; delete it if no index needs it")
        cluster.request("DELETE", f"/{companion}")
    raise ClusterError(f"{companion} is being made by somebody else in another way; try again")


def _lines(pivots: Pivots, *, rows: int) -> Iterator[BulkLine]:
    for number, (first_row, text) in enumerate(split_into_chunks(pivots, rows=rows)):
        document = json.dumps({"first_row": first_row, "features": text}, separators=(",", ":"))
        yield {"index": {"_id": str(number)}}, document


def _requests(chunks: int, *, size: int = CHUNKS_PER_REQUEST) -> Iterator[range]:
    """The numbers of all chunks, in pieces for one request each."""
    return (range(start, min(start + size, chunks)) for start in range(0, chunks, size))


def _documents(
    cluster: Cluster, companion: str, numbers: Sequence[int], *, source: bool = True
) -> list[dict[str, Any]]:
    """Chunks by number, as written last, refreshed or not."""
    params = {"_source": "features" if source else "false"}
    answer = cluster.request(
        "POST", f"/{companion}/_mget", body={"ids": [str(number) for number in numbers]}, params=params
    )
    for document in answer["docs"]:
        if "error" in document:
            raise ClusterError(f"the cluster cannot say what chunk {document.get('_id')} of {companion} is; try again")
    return list(answer["docs"])


def _unavailable(concrete: str, why: str) -> PivotsUnavailable:
    return PivotsUnavailable(
        f"the pivots of {concrete} cannot be had: {why}. Restore the companion from a snapshot, open the index with "
        "the encoder that it was made with (encoder=…), or sample new pivots from the stored vectors: "
        "deepterms migrate NAME --repivot COUNT"
    )
