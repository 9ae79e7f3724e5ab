"""All parsers of external input as functions of bytes; any exception that they raise is a bug.

The functions catch DeepTermsError, which is the correct response to invalid bytes.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch
from PIL import Image

import deepterms as dt
from deepterms.cluster.backpressure import Backpressure
from deepterms.cluster.cluster import Cluster
from deepterms.cluster.engine import explain_version_conflict, parse_engine
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import extract_reason
from deepterms.errors import DeepTermsError
from deepterms.features import FeatureStore, load_image, read_npy
from deepterms.features.embeddings import EmbeddingFolder
from deepterms.index.checkpoint import Checkpoint
from deepterms.memory.field_mapping import FieldMapping
from deepterms.memory.filters import compile_filter
from deepterms.schema.documents import build_bulk_lines, check_batch
from deepterms.schema.index_spec import IndexMeta, IndexSpec
from deepterms.schema.layouts import LAYOUTS, select_default_layout
from deepterms.schema.vectors import decode_vector
from deepterms.storage.pivot_chunks import ChunkedPivots, split_into_chunks
from tests.unit.fake_server import Answer, Asked, serving
from tests.unit.features.odd_files import photograph

__all__ = ["TARGETS", "Target", "closing"]

ENCODER = dt.DeepPermutation(4, top_k=2)
FEATURES = np.eye(4, dtype=np.float32) + 1
PIVOTS = dt.Pivots(FEATURES)
_RESOURCES = ExitStack()


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        parse: reads bytes; raises only on a bug in deepterms.
        seeds: accepted inputs.
        json: whether it reads JSON values.
    """

    parse: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    json: bool


def _of_json(check: Callable[[Any], None], *seeds: Any) -> Target:
    def parse(content: bytes) -> None:
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            return
        try:
            check(value)
        except DeepTermsError as error:
            _legible(error)

    return Target(parse, tuple(json.dumps(seed).encode() for seed in seeds), json=True)


def _of_bytes(check: Callable[[bytes], None], *seeds: bytes, json: bool = False) -> Target:
    def parse(content: bytes) -> None:
        try:
            check(content)
        except DeepTermsError as error:
            _legible(error)

    return Target(parse, seeds, json)


def _legible(error: DeepTermsError) -> None:
    """Check that an error can be shown and logged, whatever it quotes."""
    assert len(str(error)) > 10, repr(error)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="deepterms-fuzz-") as folder:
        yield Path(folder)


def closing() -> ExitStack:
    """Return the resources to close after the last target has run."""
    return _RESOURCES


def _spec(value: Any) -> None:
    encoder = dt.encoder_from_spec(value)
    assert dt.encoder_from_spec(encoder.spec()) == encoder


def _terms(value: Any) -> None:
    terms = dt.TermFrequencies.from_terms(value, vocabulary_size=64)
    assert [{name: int(count) for name, count in row.items()} for row in value] == terms.to_terms()


def _filter(value: Any) -> None:
    metadata = {"year": 2018, "tags": ["x"], "taken": "2018-05-01", "own": True, "at": {"y": [None, 1.5]}}
    fields = FieldMapping()
    assert fields.learn(metadata) == ""
    compile_filter(value, fields)("a", metadata)


def _features(value: Any) -> None:
    terms = ENCODER.encode(value)
    assert terms.matrix.sum(axis=1).max(initial=0) <= 3


def _documents(value: Any) -> None:
    rows = value if isinstance(value, list) else [value]
    pairs = [row if isinstance(row, list) and len(row) == 2 else [row, {}] for row in rows]
    batch = check_batch(
        [pair[0] for pair in pairs], np.ones((len(pairs), 4)), [pair[1] for pair in pairs], encoder=ENCODER
    )
    assert len(batch.ids) + len(batch.failed) == len(pairs)
    for action, source in build_bulk_lines(batch, IndexSpec(ENCODER, LAYOUTS[0]), fingerprint="0123abcd"):
        line = json.dumps(action, ensure_ascii=False).encode() + b"\n" + (source or "").encode()
        assert line.count(b"\n") == 1  # neither ids nor metadata can start a new line
        json.loads(source or "")


def _pivots(value: Any) -> None:
    chunked = ChunkedPivots(PIVOTS.spec(), rows=2)
    for number, text in enumerate(value[: len(chunked)] if isinstance(value, list) else [value]):
        chunked.fill(number, text)
    chunked.assemble()


def _engine(value: Any) -> None:
    str(select_default_layout(parse_engine(value)))


def _reason(value: Any) -> None:
    explain_version_conflict(extract_reason(value))


def _meta(value: Any) -> None:
    meta = IndexMeta.parse(value, name="holidays")
    IndexSpec.from_meta(meta, encoder=dt.encoder_from_spec(meta.encoder)).to_meta()


def _name(content: bytes) -> None:
    name = content.decode("utf-8", "surrogateescape")
    concrete = LAYOUTS[0].index_name(name)
    for made in (name, concrete):
        assert set(build_index_path(made)[1:]).isdisjoint("/?#*, ")


def _vector(content: bytes) -> None:
    decode_vector(content.decode("latin-1"))
    decode_vector(content.decode("latin-1"), "int8", dimensions=4)


def _bulk(value: Any) -> None:
    """Parse a bulk response of any shape through both client libraries."""
    lines: list[Any] = [({"index": {"_id": name}}, '{"terms":{"t1":1}}') for name in ("a", "b")]
    for cluster in _clusters(value):
        try:
            outcomes = cluster.bulk(lines, index="holidays").outcomes
        except DeepTermsError as error:
            _legible(error)
        else:
            assert len(outcomes) == 2
            assert all(isinstance(part, str) for outcome in outcomes for part in outcome)


_answer: list[Any] = [{}]


def _clusters(value: Any, made: list[Cluster] = []) -> list[Cluster]:  # noqa: B006 - created once, on first use
    """Return clients of a server that answers every request with a value; a `status` of 4xx or 5xx in it is used."""
    _answer[0] = value
    if not made:

        def answer(asked: Asked) -> Answer:
            given = _answer[0]
            status = given.get("status") if isinstance(given, dict) else None
            is_error = isinstance(status, int) and 400 <= status < 600
            return Answer(given, status if is_error and status else 200, {"x-elastic-product": "Elasticsearch"})

        url = _RESOURCES.enter_context(serving(answer))
        options: dict[str, Any] = {"max_retries": 0}
        clients: list[Any] = [OpenSearch(url, **options), Elasticsearch(url, **options)]
        for client in clients:
            _RESOURCES.callback(client.close)
        # Do not wait between retries.
        made += [Cluster(client, backpressure=Backpressure(sleep=lambda seconds: None)) for client in clients]
        _RESOURCES.callback(made.clear)
    return made


HEADER = {"format": "deepterms-features", "version": 1, "dimensions": 4, "extractor": {"backbone": "x", "sizes": [1]}}


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


ITEMS = _parquet(id=["a", "b", "c", "d"], path=["a.jpg"] * 4, size=[1, 2, 3, 4], mtime_ns=[1, 2, 3, 4])


def _store(**files: bytes) -> None:
    """Read a feature store, some of whose files are replaced, from start to end."""
    content = {
        "store.json": json.dumps(HEADER).encode(),
        "features-00000.npy": _npy(FEATURES),
        "items-00000.parquet": ITEMS,
    }
    with _folder() as folder:
        for name, given in (content | files).items():
            (folder / name).write_bytes(given)
        store = FeatureStore.open(folder)
        for batch in store.batches(rows=3):
            assert batch.features.dtype == np.float32
            assert all(isinstance(item_id, str) for item_id in batch.ids)
        assert len(store.ids) == len(store)
        store.features_of(store.ids)
        for failure in store.failures():
            assert all(isinstance(failure[key], str) for key in ("id", "path", "reason"))


def _store_header(content: bytes) -> None:
    _store(**{"store.json": content})


def _store_features(content: bytes) -> None:
    _store(**{"features-00000.npy": content})


def _store_items(content: bytes) -> None:
    _store(**{"items-00000.parquet": content})


def _store_failures(content: bytes) -> None:
    _store(**{"failures.jsonl": content})


def _embeddings(features: bytes, items: bytes) -> None:
    with _folder() as folder:
        for name, content in (("img_emb/img_emb_0.npy", features), ("metadata/metadata_0.parquet", items)):
            (folder / name).parent.mkdir()
            (folder / name).write_bytes(content)
        embeddings = EmbeddingFolder.open(folder)
        rows = 0
        for batch in embeddings.batches(rows=3):
            json.dumps(batch.items, allow_nan=False)
            rows += len(batch.ids)
        assert rows == len(embeddings)


def _embedding_features(content: bytes) -> None:
    _embeddings(content, ITEMS)


def _embedding_items(content: bytes) -> None:
    _embeddings(_npy(FEATURES), content)


def _ids(content: bytes) -> None:
    with _folder() as folder:
        (folder / "x.npy").write_bytes(_npy(FEATURES))
        for name in ("ids.json", "ids.txt"):
            (folder / name).write_bytes(content)
            try:
                assert len(read_npy(folder / "x.npy", folder / name)) == 4
            except DeepTermsError as error:
                _legible(error)


def _checkpoint(content: bytes) -> None:
    """Check that a file is read as a checkpoint or left unchanged."""
    with _folder() as folder:
        path = folder / "sent"
        path.write_bytes(content)
        try:
            with Checkpoint(path, owner=OWNER) as checkpoint:
                checkpoint.record("0" * 32, documents=3)
        except DeepTermsError:
            assert path.read_bytes() == content
            raise
        with Checkpoint(path, owner=OWNER) as again:
            assert again.holds("0" * 32)
            assert again.acknowledged >= 3


def _whitening(content: bytes) -> None:
    with _folder() as folder:
        (folder / "whitening.npz").write_bytes(content)
        dt.PCAWhitening.load(folder / "whitening.npz").apply(np.ones((1, 3), dtype=np.float32))


def _whitening_seed() -> bytes:
    with _folder() as folder:
        dt.PCAWhitening(np.zeros(3, np.float32), np.eye(2, 3, dtype=np.float32)).save(folder / "w.npz")
        return (folder / "w.npz").read_bytes()


def _image(content: bytes) -> None:
    with _folder() as folder:
        (folder / "photo").write_bytes(content)
        picture = load_image(folder / "photo", max_pixels=1_000_000, min_side=16)
        assert picture.mode == "RGB"


def _images() -> Iterator[bytes]:
    picture = Image.fromarray(photograph(1, width=24, height=16))
    for format in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"):
        file = io.BytesIO()
        picture.save(file, format)
        yield file.getvalue()


BULK = {
    "took": 1,
    "errors": True,
    "items": [
        {"index": {"_index": "x-000001", "_id": "a", "status": 201}},
        {
            "index": {
                "_index": "x-000001",
                "_id": "b",
                "status": 400,
                "error": {"type": "illegal_argument_exception", "reason": "no", "caused_by": {"reason": "deeper"}},
            }
        },
    ],
}
REJECTED = {
    "error": {"root_cause": [{"type": "x", "reason": "y"}], "type": "x", "caused_by": {"type": "z"}},
    "status": 400,
}
VERSION = {"name": "n", "version": {"number": "3.8.0", "distribution": "opensearch", "build_flavor": "default"}}
FAILED = {"id": "a.jpg", "path": "a.jpg", "reason": "broken"}
META = {
    "layout": "words",
    "version": 1,
    "encoder": ENCODER.spec(),
    "vectors": "float32",
    "extractor": {"backbone": "x"},
}
FILTERS: tuple[Any, ...] = (
    {"bool": {"must": [{"term": {"metadata.year": 2018}}], "should": {"exists": {"field": "id"}}}},
    {"bool": {"should": [{"match_all": {}}], "minimum_should_match": 1}},
    {"range": {"metadata.year": {"gte": 2000, "lt": "x"}}},
    {"ids": {"values": ["a"]}},
    {"terms": {"metadata.tags": ["x", 1]}},
    {"prefix": {"metadata.tags": {"value": "x"}}},
)

OWNER = {"index": "holidays", "encoder": ENCODER.spec()}
CHECKPOINT = json.dumps({"deepterms_checkpoint": 1, **OWNER}).encode() + b"\n" + b"a" * 32 + b" 1000\n"

TARGETS: dict[str, Target] = {
    "bulk-answers": _of_json(_bulk, BULK, REJECTED),
    "checkpoints": _of_bytes(_checkpoint, CHECKPOINT, CHECKPOINT[:-9], CHECKPOINT[:40], b""),
    "documents": _of_json(_documents, [["a", {"year": 1}], ["b", {}]], ["../_all", "a?b=c", '"}', "\n", "$(x)"]),
    "embedding-features": _of_bytes(_embedding_features, _npy(FEATURES), _npy(np.float32(1))),
    "embedding-items": _of_bytes(_embedding_items, ITEMS, _parquet(key=["a", "b", None, "d"], similarity=[0.5] * 4)),
    "encoder-specs": _of_json(_spec, ENCODER.spec()),
    "pivot-chunks": _of_json(_pivots, [text for _, text in split_into_chunks(PIVOTS, rows=2)]),
    "engine-versions": _of_json(_engine, VERSION),
    "error-bodies": _of_json(_reason, REJECTED["error"], "text"),
    "features": _of_json(_features, [1, 2, 3, 4], [[1, 0, 0, -1]]),
    "filters": _of_json(_filter, *FILTERS),
    "id-lists": _of_bytes(_ids, b"a\nb\nc\nd\n", b'["a", "b", "c", "d"]', json=True),
    "images": _of_bytes(_image, *_images()),
    "index-names": _of_bytes(_name, b"holidays", b"../_all", b"a,b", b"a%2fb", "größe".encode()),
    "mapping-meta": _of_json(_meta, META),
    "store-failures": _of_bytes(_store_failures, json.dumps(FAILED).encode() + b"\n", json=True),
    "store-features": _of_bytes(_store_features, _npy(FEATURES), _npy(FEATURES.astype(np.float16))),
    "store-headers": _of_bytes(_store_header, json.dumps(HEADER).encode(), json=True),
    "store-items": _of_bytes(_store_items, ITEMS, _parquet(id=[1, 2, 3, None]), _parquet(path=["a"] * 4)),
    "stored-vectors": _of_bytes(_vector, base64.b64encode(FEATURES[0].tobytes())),
    "term-frequencies": _of_json(_terms, [{"t1": 2, "t63": 65535}, {}]),
    "whitenings": _of_bytes(_whitening, _whitening_seed(), _npy(FEATURES)),
}
