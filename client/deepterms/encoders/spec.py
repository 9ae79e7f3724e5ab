"""Encoder specs: from the JSON stored in an index's mapping to the encoder that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pair_codewords import PairCodewords
from deepterms.encoders.pivots.nearest import Search
from deepterms.encoders.pivots.pairs import PivotPairs
from deepterms.encoders.pivots.permutation import PivotPermutation, PivotWeights, Spill
from deepterms.encoders.pivots.pivots import Metric, Pivots
from deepterms.encoders.scalar_quantization import ScalarQuantization
from deepterms.errors import InvalidInput, MissingPivots

__all__ = ["encoder_from_spec", "explain_errors"]

Size = Annotated[int, Field(ge=1)]


class Spec(BaseModel):
    """Part of a spec. Every declared member without a default is required, and no others are allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DeepPermutationSpec(Spec):
    """The spec of `DeepPermutation`."""

    type: Literal["deep_permutation"]
    dimensions: Size
    top_k: Size
    crelu: bool
    binary: bool

    def build(self, pivots: Pivots | None) -> Encoder:
        """Build the encoder that this spec describes."""
        return DeepPermutation(self.dimensions, top_k=self.top_k, crelu=self.crelu, binary=self.binary)


class PivotsSpec(Spec):
    """Identifies an encoder's pivots, which are stored elsewhere."""

    checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    count: Size
    dimensions: Size
    metric: Metric

    def check(self, pivots: Pivots | None) -> Pivots:
        """Return the pivots, after checking that they are the ones in the spec."""
        expected = f"{self.count} pivots of {self.dimensions} dimensions ({self.metric}, checksum {self.checksum})"
        if pivots is None:
            raise MissingPivots(
                f"the spec needs {expected}, but none were given; pass the Pivots that the encoder was created "
                "with, or open the index that stores them"
            )
        if pivots.spec() != self.model_dump():
            raise MissingPivots(f"the spec needs {expected}; got others: {pivots!r}, checksum {pivots.checksum}")
        return pivots


class PivotPermutationSpec(Spec):
    """The spec of `PivotPermutation`."""

    type: Literal["pivot_permutation"]
    pivots: PivotsSpec
    top_k: Size
    query_top_k: Size
    weights: PivotWeights
    search: Search
    spill: Spill = "nearest"

    def build(self, pivots: Pivots | None) -> Encoder:
        """Build the encoder that this spec describes, with its pivots."""
        return PivotPermutation(
            self.pivots.check(pivots),
            top_k=self.top_k,
            query_top_k=self.query_top_k,
            weights=self.weights,
            search=self.search,
            spill=self.spill,
        )


class PivotPairsSpec(Spec):
    """The spec of `PivotPairs`."""

    type: Literal["pivot_pairs"]
    pivots: PivotsSpec
    top_k: Size
    query_top_k: Size
    search: Search

    def build(self, pivots: Pivots | None) -> Encoder:
        """Build the encoder that this spec describes, with its pivots."""
        return PivotPairs(self.pivots.check(pivots), top_k=self.top_k, query_top_k=self.query_top_k, search=self.search)


class PairCodewordsSpec(Spec):
    """The spec of `PairCodewords`."""

    type: Literal["pair_codewords"]
    dimensions: Size
    rotations: Size
    rank_sum: Size
    query_rank_sum: Size
    seed: Annotated[int, Field(ge=0)]

    def build(self, pivots: Pivots | None) -> Encoder:
        """Build the encoder that this spec describes."""
        return PairCodewords(
            self.dimensions,
            rotations=self.rotations,
            rank_sum=self.rank_sum,
            query_rank_sum=self.query_rank_sum,
            seed=self.seed,
        )


class ScalarQuantizationSpec(Spec):
    """The spec of `ScalarQuantization`."""

    type: Literal["scalar_quantization"]
    dimensions: Size
    factor: Size
    top_k: Size | None
    threshold: Annotated[float, Field(ge=0, le=1)]
    rotation_seed: Annotated[int, Field(ge=0)] | None

    def build(self, pivots: Pivots | None) -> Encoder:
        """Build the encoder that this spec describes."""
        return ScalarQuantization(
            self.dimensions,
            factor=self.factor,
            top_k=self.top_k,
            threshold=self.threshold,
            rotation_seed=self.rotation_seed,
        )


AnySpec: TypeAlias = (
    DeepPermutationSpec | PivotPermutationSpec | PivotPairsSpec | PairCodewordsSpec | ScalarQuantizationSpec
)

_SPECS: TypeAdapter[AnySpec] = TypeAdapter(Annotated[AnySpec, Field(discriminator="type")])


def explain_errors(error: ValidationError, *, whole: str) -> str:
    """Describe validation errors field by field; `whole` names the object if no single field is to blame."""
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or whole}: {item['msg']}" for item in error.errors())


def encoder_from_spec(spec: Mapping[str, Any], *, pivots: Pivots | None = None) -> Encoder:
    """Rebuild an encoder from its `spec()`.

    Args:
        spec: plain JSON.
        pivots: the encoder's pivots, if it has any; `SurrogateIndex.open` reads them from the cluster.

    Raises:
        MissingPivots: the spec needs pivots that were not given, or differ from those given.
        InvalidInput: this release knows no encoder with such a spec.
    """
    if not isinstance(spec, Mapping):
        raise InvalidInput(f"an encoder spec must be a JSON object; got {type(spec).__name__}")
    try:
        validated = _SPECS.validate_python(dict(spec))
    except ValidationError as error:
        raise InvalidInput(
            f"invalid encoder spec {dict(spec)!r}: {explain_errors(error, whole='spec')}. "
            "It may come from a newer release of deepterms; upgrade, or re-create the index"
        ) from error
    return validated.build(pivots)
