"""Encoder specs: the JSON in an index's mapping from which its encoder is rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.encoder import Encoder
from deepterms.errors import InvalidInput

__all__ = ["encoder_from_spec", "reasons_of"]


class DeepPermutationSpec(BaseModel):
    """The spec of `DeepPermutation`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["deep_permutation"]
    dimensions: Annotated[int, Field(ge=1)]
    top_k: Annotated[int, Field(ge=1)]
    crelu: bool
    binary: bool

    def encoder(self) -> Encoder:
        """The encoder that this spec describes."""
        return DeepPermutation(self.dimensions, top_k=self.top_k, crelu=self.crelu, binary=self.binary)


# A second encoder turns this into a union discriminated by `type`.
_SPECS = TypeAdapter(DeepPermutationSpec)


def reasons_of(error: ValidationError, *, whole: str) -> str:
    """What a model refused, field by field; `whole` names the object where no single field is to blame."""
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or whole}: {item['msg']}" for item in error.errors())


def encoder_from_spec(spec: Mapping[str, Any]) -> Encoder:
    """Rebuild an encoder from what its `spec()` returned.

    Raises:
        InvalidInput: not the spec of an encoder that this release knows.
    """
    if not isinstance(spec, Mapping):
        raise InvalidInput(f"an encoder spec is an object; got {type(spec).__name__}")
    try:
        return _SPECS.validate_python(dict(spec)).encoder()
    except ValidationError as error:
        raise InvalidInput(
            f"not an encoder spec of this release: {dict(spec)!r}: {reasons_of(error, whole='spec')}. "
            "It may have been written by a newer deepterms; upgrade, or re-create the index."
        ) from error
