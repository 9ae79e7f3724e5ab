"""Schemas: the JSON bodies of requests and responses, as the OpenAPI description shows them."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import from_json

from deepterms.web.errors import HttpError
from deepterms.web.filters import Filters, at_most

__all__ = [
    "MAX_BATCH",
    "AddRequest",
    "CodewordMatch",
    "DeleteRequest",
    "DocumentFailure",
    "DocumentResponse",
    "ExplainRequest",
    "ExplainResponse",
    "FacetsResponse",
    "FieldFacet",
    "HealthResponse",
    "IdSearch",
    "ImageSearch",
    "NewDocument",
    "SearchHit",
    "SearchParameters",
    "SearchResponse",
    "SearchTimes",
    "SessionRequest",
    "StatusResponse",
    "StreamLine",
    "VectorSearch",
    "WriteResponse",
    "describe_first_error",
    "encode_vector",
    "parse_filters",
    "parse_vector",
]

DEFAULT_HITS = 24
MAX_BATCH = 5_000  # documents
MAX_DIMENSIONS = 65_536
MAX_MEMBERS = 32  # of an object in a request, apart from metadata

Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]


def _read_vector(value: Any) -> NDArray[np.float32] | str:
    """Take numbers as one array: pydantic would make an error of each element that is not a number."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("expected a list of numbers or base64")
    if len(value) > MAX_DIMENSIONS:
        raise ValueError(f"got {len(value):,} numbers; expected at most {MAX_DIMENSIONS:,}")
    if others := set(map(type, value)) - {int, float}:
        raise ValueError(f"expected numbers; got {', '.join(sorted(_JSON_NAMES[kind] for kind in others))} among them")
    try:
        with np.errstate(over="ignore"):  # numbers too large for float32 become infinity, which is rejected later
            return np.asarray(value, dtype=np.float32)
    except OverflowError:
        raise ValueError("a number is too large") from None


_JSON_NAMES = {str: "a text", bool: "a boolean", type(None): "null", list: "an array", dict: "an object"}
_VECTOR_SCHEMA = {
    "anyOf": [{"type": "array", "items": {"type": "number"}, "maxItems": MAX_DIMENSIONS}, {"type": "string"}],
    "description": "D numbers, or base64 of D little-endian float32 values.",
}
Vector = Annotated[NDArray[np.float32] | str, PlainValidator(_read_vector), WithJsonSchema(_VECTOR_SCHEMA)]


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Request(_Schema):
    @model_validator(mode="before")
    @classmethod
    def _bound_members(cls, data: Any) -> Any:
        return at_most(MAX_MEMBERS)(data)


class SearchParameters(_Request):
    """Parameters of every search."""

    k: int = Field(default=DEFAULT_HITS, ge=1, description="Number of hits.")
    rerank: int | None = Field(
        default=None,
        ge=0,
        description="Number of candidates to re-rank by exact cosine similarity; 0 for none. Defaults to the index's "
        "own number if it stores vectors.",
    )
    effort: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Fraction of the query's codewords to search for, the largest first. Defaults to the index's.",
    )
    recall: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the ten nearest documents to find, by what was measured in the index. Defaults to the "
        "index's; `rerank` and `effort` override it.",
    )
    min_score: float | None = Field(default=None, description="Omit hits with a lower score.", allow_inf_nan=False)
    fields: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^[^*]+$", max_length=200)]] | None, BeforeValidator(at_most(50))
    ] = Field(default=None, max_length=50, description="Metadata fields to return; all by default.")
    split: bool = Field(
        default=False,
        description="Search a second time without re-ranking, so that `times` can report re-ranking separately.",
    )
    vector: bool = Field(default=False, description="Also return the query descriptor, for further searches.")


class JsonParameters(SearchParameters):
    """Search parameters in a JSON body."""

    filter: Filters | None = Field(
        default=None,
        description="Metadata field → list of values, any of which matches, or a range such as "
        '`{"gte": 2017, "lt": 2019}` or `{"gte": "2018-05-01", "lt": "now-1d"}`. A document must match every field.',
        examples=[{"year": [2017, 2018]}],
    )


class VectorSearch(JsonParameters):
    """A search by descriptor."""

    query: Vector


class IdSearch(JsonParameters):
    """A search by a document of the index."""

    id: Id


class ImageSearch(SearchParameters):
    """Search parameters in the query string."""

    filter: str | None = Field(default=None, max_length=4_000, description="As in the other searches, in JSON.")


class SearchHit(_Schema):
    """One hit."""

    rank: int
    id: str
    score: float
    metadata: dict[str, JsonValue]
    thumbnail: str | None = Field(description="URL of the thumbnail; null if the server has no photo folders.")


class SearchTimes(_Schema):
    """Time per step in milliseconds; null for a step that was skipped."""

    decoding: float | None = None
    descriptor: float | None = None
    search: float = Field(
        description="Encoding the query and the cluster round trip; includes re-ranking unless `rerank` is set."
    )
    rerank: float | None = Field(default=None, description="How much re-ranking adds to the search; only with `split`.")
    engine: float = Field(description="Time that the engine itself reports for the search.")


class SearchResponse(_Schema):
    """The hits of a search."""

    hits: list[SearchHit]
    partial: bool = Field(description="A shard failed or timed out, so hits may be missing.")
    score: str = Field(description="Kind of score: `cosine`, or `dot product` of term frequencies.")
    times: SearchTimes
    query: dict[str, int] | None = Field(
        description="The query's codewords with the largest weights, as sent to the engine; null if no codewords were "
        "used, because the filter keeps so few documents that each was compared exactly."
    )
    vector: str | None = Field(default=None, description="Base64 of D little-endian float32 values.")


class ExplainRequest(_Request):
    """The document to explain, and the query: a descriptor or another document."""

    id: Id
    query: Vector | None = None
    query_id: Id | None = None
    effort: float = Field(default=1.0, gt=0, le=1)


class CodewordMatch(_Schema):
    """One codeword that the query and the document share."""

    codeword: str
    weight: int
    frequency: int
    product: int


class ExplainResponse(_Schema):
    """How a document got its score before re-ranking."""

    id: str
    score: int
    engine_score: float
    agrees: bool = Field(description="Whether the engine's score is the same.")
    query_codewords: int
    document_codewords: int
    matches: list[CodewordMatch]


class NewDocument(_Request):
    """A document to index."""

    id: Id
    vector: Vector
    metadata: dict[str, JsonValue] = {}


class AddRequest(_Request):
    """Documents to index."""

    documents: list[NewDocument] = Field(min_length=1, max_length=MAX_BATCH)
    refresh: bool = Field(default=False, description="Make the documents visible to search before responding.")


class DocumentFailure(_Schema):
    """A document that was not written."""

    id: str
    reason: str


class WriteResponse(_Schema):
    """The outcome of adding or deleting documents."""

    succeeded: int
    failed: list[DocumentFailure]


class StreamLine(_Schema):
    """One line of the response to a stream: one per batch, and a final one with `done`."""

    succeeded: int = Field(description="Total so far.")
    failed: list[DocumentFailure] = Field(default=[], description="Since the previous line.")
    error: str | None = Field(default=None, description="Why the stream was aborted; only on the last line.")
    done: bool = False


class DeleteRequest(_Request):
    """Documents to delete."""

    ids: Annotated[list[Id], BeforeValidator(at_most(10_000))] = Field(min_length=1, max_length=10_000)
    refresh: bool = Field(default=False, description="Make the deletion visible to search before responding.")


class DocumentResponse(_Schema):
    """A document as stored in the index."""

    id: str
    metadata: dict[str, JsonValue]
    terms: dict[str, int]
    vector: str | None = Field(
        description="Base64 of D little-endian float32 values; null if the index stores no vectors."
    )
    thumbnail: str | None


class FieldFacet(_Schema):
    """One metadata field: its values with counts, or the bounds of its range."""

    field: str
    values: list[tuple[JsonValue, int]]
    more: bool
    least: float | str | None = Field(description="A number, or a day such as `2018-05-01`.")
    most: float | str | None


class FacetsResponse(_Schema):
    """The metadata fields that searches can filter by."""

    facets: list[FieldFacet]


class StatusResponse(_Schema):
    """The index and the capabilities of the server."""

    name: str
    documents: int
    engine: str
    encoder: str
    dimensions: int
    vocabulary_size: int
    vectors: str | None = Field(description="Type of the stored vectors; null if there are none, so no re-ranking.")
    bytes: int | None = Field(description="Size on disk; null if the server lacks the privilege to read it.")
    images: bool = Field(
        description="Whether search by image is available; requires an index that records its extractor."
    )
    photographs: bool = Field(description="Whether thumbnails are served.")
    writable: bool
    largest_k: int
    largest_rerank: int
    image_bytes: int
    version: str


class SessionRequest(_Request):
    """The server's token, to be exchanged for a cookie."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=512)]


class HealthResponse(_Schema):
    """Result of a liveness or readiness probe."""

    status: str


_FILTERS: TypeAdapter[dict[str, Any]] = TypeAdapter(Filters)


def parse_filters(text: str | None) -> dict[str, Any] | None:
    """Parse the filters of a query string.

    Raises:
        HttpError: 422, they are invalid.
    """
    if text is None:
        return None
    try:
        return _FILTERS.validate_python(from_json(text))
    except ValidationError as error:
        raise HttpError(422, f"invalid filter: {describe_first_error(error)}") from None
    except ValueError as error:
        raise HttpError(422, f"invalid filter: not JSON: {error}") from None


def parse_vector(vector: NDArray[np.float32] | str, *, dimensions: int) -> NDArray[np.float32]:
    """Parse a vector as sent by a client into float32 (D,).

    Raises:
        HttpError: 422, it is malformed or has the wrong length.
    """
    if isinstance(vector, str):
        try:
            content = base64.b64decode(vector, validate=True)
        except (binascii.Error, ValueError):
            raise HttpError(422, "invalid vector: expected a list of numbers or base64") from None
        if len(content) != 4 * dimensions:
            raise HttpError(
                422,
                f"invalid vector: got {len(content)} bytes; expected {4 * dimensions}, that is, {dimensions} float32 "
                "values",
            )
        return np.frombuffer(content, dtype="<f4").astype(np.float32)
    if len(vector) != dimensions:
        raise HttpError(422, f"invalid vector: got {len(vector)} numbers; expected {dimensions}")
    return vector


def encode_vector(vector: NDArray[np.float32]) -> str:
    """Encode a vector (D,) as base64 of little-endian float32."""
    return base64.b64encode(np.ascontiguousarray(vector, dtype="<f4").tobytes()).decode("ascii")


def describe_first_error(error: ValidationError) -> str:
    """Describe the first of several validation errors: its location and message."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
