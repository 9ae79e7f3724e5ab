"""Messages: what requests to the API hold and what it answers, as the OpenAPI description shows them."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, TypeAdapter, ValidationError

from deepterms.web.errors import Problem
from deepterms.web.filters import Choices

__all__ = [
    "AddAnswer",
    "AddRequest",
    "DeleteRequest",
    "DocumentAnswer",
    "ExplainAnswer",
    "ExplainRequest",
    "FacetAnswer",
    "FacetsAnswer",
    "FailureAnswer",
    "HitAnswer",
    "IdSearch",
    "ImageSearch",
    "MatchAnswer",
    "NewDocument",
    "Probe",
    "SearchAnswer",
    "SearchOptions",
    "SessionRequest",
    "StatusAnswer",
    "StreamLine",
    "TimesAnswer",
    "VectorSearch",
    "array_of",
    "choices_of",
    "first_error",
    "text_of",
]

DEFAULT_HITS = 24

Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Vector = Annotated[
    list[float] | str,
    Field(description="D numbers, or the base64 of D little-endian float32."),
]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchOptions(_Message):
    """What is asked of a search beside the query."""

    k: int = Field(default=DEFAULT_HITS, ge=1, description="How many hits.")
    rerank: int | None = Field(
        default=None,
        ge=0,
        description="Candidates to re-rank by exact cosine; 0: none; default: 200 if there are vectors.",
    )
    effort: float = Field(default=1.0, gt=0, le=1, description="The share of the query's codewords that is asked for.")
    min_score: float | None = Field(default=None, description="Leave out hits below it.", allow_inf_nan=False)
    fields: list[Annotated[str, StringConstraints(pattern=r"^[^*]+$", max_length=200)]] | None = Field(
        default=None, max_length=50, description="Fields of the metadata to return; default: all."
    )
    split: bool = Field(
        default=False, description="Search once more without re-ranking, to tell in `times` what re-ranking takes."
    )
    vector: bool = Field(default=False, description="Return the query's descriptor too, to search with it again.")


class JsonOptions(SearchOptions):
    """Options in a body of JSON."""

    filter: Choices | None = Field(
        default=None,
        description="Field of the metadata → a list of values, any of which fits, or a range such as "
        '`{"gte": 2017, "lt": 2019}`. All fields must fit.',
        examples=[{"year": [2017, 2018]}],
    )


class VectorSearch(JsonOptions):
    """A search by a descriptor."""

    query: Vector


class IdSearch(JsonOptions):
    """A search by a document of the index."""

    id: Id


class ImageSearch(SearchOptions):
    """Options in the address."""

    filter: str | None = Field(default=None, max_length=4_000, description="As in the other searches, as JSON.")


class HitAnswer(_Message):
    """One hit."""

    rank: int
    id: str
    score: float
    metadata: dict[str, JsonValue]
    thumbnail: str | None = Field(description="Where its thumbnail is, if this server has folders of photographs.")


class TimesAnswer(_Message):
    """Milliseconds; null for a step that was not taken."""

    decoding: float | None = None
    descriptor: float | None = None
    encoding: float | None = None
    search: float = Field(description="At the cluster and back, re-ranking included unless that stands apart.")
    rerank: float | None = Field(
        default=None, description="What re-ranking adds to the same search; only with `split`."
    )
    engine: float = Field(description="The engine's own time for the search.")


class SearchAnswer(_Message):
    """The hits of a search."""

    hits: list[HitAnswer]
    partial: bool = Field(description="A shard failed or ran out of time, so hits may be missing.")
    score: str = Field(description="What scores are: `cosine`, or `dot product` of term frequencies.")
    times: TimesAnswer
    query: dict[str, int] = Field(description="The query's codewords with their weights, the largest first.")
    vector: str | None = Field(default=None, description="The base64 of its D little-endian float32.")


class ExplainRequest(_Message):
    """Which document, for which query: a descriptor, or another document."""

    id: Id
    query: Vector | None = None
    query_id: Id | None = None
    effort: float = Field(default=1.0, gt=0, le=1)


class MatchAnswer(_Message):
    """One codeword that query and document share."""

    codeword: str
    weight: int
    frequency: int
    product: int


class ExplainAnswer(_Message):
    """Why a document has its score before re-ranking."""

    id: str
    score: int
    engine_score: float
    agrees: bool = Field(description="Whether the index itself gives the document this score.")
    query_codewords: int
    document_codewords: int
    matches: list[MatchAnswer]


class NewDocument(_Message):
    """A document to index."""

    id: Id
    vector: Vector
    metadata: dict[str, JsonValue] = {}


class AddRequest(_Message):
    """Documents to index."""

    documents: list[NewDocument] = Field(min_length=1, max_length=5_000)
    refresh: bool = Field(default=False, description="Make them visible to search before the answer.")


class FailureAnswer(_Message):
    """A document that was left out."""

    id: str
    reason: str


class AddAnswer(_Message):
    """What became of documents."""

    succeeded: int
    failed: list[FailureAnswer]


class StreamLine(_Message):
    """One line of the answer to a stream: after each batch, and a last one with `done`."""

    succeeded: int = Field(description="So far.")
    failed: list[FailureAnswer] = Field(default=[], description="Since the line before.")
    error: str | None = Field(default=None, description="Why the stream was given up; it is the last line.")
    done: bool = False


class DeleteRequest(_Message):
    """Documents to delete."""

    ids: list[Id] = Field(min_length=1, max_length=10_000)
    refresh: bool = Field(default=False, description="Make it visible to search before the answer.")


class DocumentAnswer(_Message):
    """A document as the index holds it."""

    id: str
    metadata: dict[str, JsonValue]
    terms: dict[str, int]
    vector: str | None = Field(description="The base64 of its D little-endian float32, if the index keeps it.")
    thumbnail: str | None


class FacetAnswer(_Message):
    """One field of the metadata: values with counts, or the ends of a range."""

    field: str
    values: list[tuple[JsonValue, int]]
    more: bool
    least: float | None
    most: float | None


class FacetsAnswer(_Message):
    """What can be chosen."""

    facets: list[FacetAnswer]


class StatusAnswer(_Message):
    """What is served."""

    name: str
    documents: int
    engine: str
    encoder: str
    dimensions: int
    vocabulary_size: int
    vectors: str | None = Field(description="The type of the stored descriptors; null: no re-ranking.")
    bytes: int | None = Field(description="On disk; null where this server may not ask for it.")
    images: bool = Field(description="Whether pictures can be searched with: the index says what made its descriptors.")
    photographs: bool = Field(description="Whether thumbnails are served.")
    writable: bool
    largest_k: int
    largest_rerank: int
    image_bytes: int
    version: str


class SessionRequest(_Message):
    """The server's token, for a cookie."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Probe(_Message):
    """Whether the server lives, or can search."""

    status: str


_CHOICES: TypeAdapter[dict[str, Any]] = TypeAdapter(Choices)


def choices_of(text: str | None) -> dict[str, Any] | None:
    """The choices that a filter in an address is.

    Raises:
        Problem: 422, it is none.
    """
    if text is None:
        return None
    try:
        return _CHOICES.validate_python(json.loads(text))
    except ValidationError as error:
        raise Problem(422, f"filter: {first_error(error)}") from None
    except (ValueError, RecursionError) as error:
        raise Problem(422, f"filter is not JSON: {error}") from None


def array_of(vector: list[float] | str, *, dimensions: int) -> NDArray[np.float32]:
    """A vector as sent, as float32 (D,).

    Raises:
        Problem: 422, it has another length or is no vector.
    """
    if isinstance(vector, str):
        try:
            content = base64.b64decode(vector, validate=True)
        except (binascii.Error, ValueError):
            raise Problem(422, "the vector is neither a list of numbers nor base64") from None
        if len(content) != 4 * dimensions:
            raise Problem(422, f"the vector has {len(content)} bytes; expected {dimensions} float32, 4 bytes each")
        return np.frombuffer(content, dtype="<f4").astype(np.float32)
    if len(vector) != dimensions:
        raise Problem(422, f"the vector has {len(vector)} numbers; this index holds {dimensions}")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused later
        return np.asarray(vector, dtype=np.float32)


def text_of(vector: NDArray[np.float32]) -> str:
    """The base64 of a vector (D,)."""
    return base64.b64encode(np.ascontiguousarray(vector, dtype="<f4").tobytes()).decode("ascii")


def first_error(error: ValidationError) -> str:
    """Where the first of several errors is, and what it is."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
