"""Presets: from the number of documents and a sample of them to an encoder and the number of candidates to re-rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from deepterms.encoders.arrays import Features, as_array
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pivots.permutation import PivotPermutation
from deepterms.encoders.pivots.sampling import sample_pivots
from deepterms.errors import InvalidInput

__all__ = ["MAX_PIVOTS", "MIN_PIVOTS", "PRESETS", "Preset", "PresetName", "SelectedEncoder", "select_encoder"]

PresetName: TypeAlias = Literal["small", "balanced", "accurate"]
"""How much time and space to spend on recall."""

MIN_PIVOTS = 256
MIN_DOCUMENTS_PER_PIVOT = 4  # where pivots are compared one by one
MAX_SMALL_PIVOTS = 4_096
MANY_PIVOTS = 8_192
MAX_PIVOTS = 65_536  # 168 MB at 1,280 dimensions, in the memory of every client


@dataclass(frozen=True)
class Preset:
    """Settings of an encoder and an index that suit each other.

    Attributes:
        documents_per_pivot: documents per pivot, rounded so that the number of pivots is a power of two; fewer in small
            collections.
        documents_per_extra_pivot: documents per pivot in collections that need more than 8,192 pivots.
        top_k: words per document.
        query_top_k: words per query.
        rerank: candidates to re-rank.
    """

    documents_per_pivot: int
    documents_per_extra_pivot: int
    top_k: int
    query_top_k: int
    rerank: int

    def choose_pivot_count(self, documents: int) -> int:
        """Choose the number of pivots: a power of two, from 256 to 65,536.

        A small collection gets one pivot per four documents, up to 4,096: R@10 of 10,000 mixtures was .904 with 512
        pivots and .954 with 2,048, which also read a quarter of the postings. In a large collection with 1,000
        candidates, half the pivots give the same recall and cost clients less time and memory: R@10 was .990 with
        16,384 pivots for 500,000 mixtures and .993 with 8,192; .990 with 65,536 for 2,000,000 and .989 with 32,768.
        With 500 candidates, half the pivots lose .013.

        Args:
            documents: the expected number of documents.

        Raises:
            InvalidInput: `documents` is below 1.
        """
        if documents < 1:
            raise InvalidInput(f"documents is {documents}; expected the number that the index will hold, at least 1")
        shares = (
            min(documents / MIN_DOCUMENTS_PER_PIVOT, MAX_SMALL_PIVOTS),
            min(documents / self.documents_per_pivot, MANY_PIVOTS),
            documents / self.documents_per_extra_pivot,
        )
        nearest = int(2 ** round(math.log2(max(1.0, *shares))))
        return max(MIN_PIVOTS, min(nearest, MAX_PIVOTS))


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "small": Preset(documents_per_pivot=32, documents_per_extra_pivot=32, top_k=4, query_top_k=16, rerank=500),
        "balanced": Preset(documents_per_pivot=32, documents_per_extra_pivot=64, top_k=4, query_top_k=32, rerank=1_000),
        "accurate": Preset(documents_per_pivot=16, documents_per_extra_pivot=32, top_k=8, query_top_k=64, rerank=4_000),
    }
)


@dataclass(frozen=True)
class SelectedEncoder:
    """An encoder, and the number of candidates to re-rank with it.

    Attributes:
        encoder: the encoder, as given by the caller or created from a preset.
        rerank: the number of candidates; None for the encoder's default.
    """

    encoder: Encoder
    rerank: int | None = None


def select_encoder(
    encoder: Encoder | Literal["auto"],
    *,
    features: Features | None = None,
    documents: int | None = None,
    preset: PresetName = "balanced",
    seed: int = 0,
) -> SelectedEncoder:
    """Return the given encoder, or create one from a preset for ``auto``.

    Args:
        encoder: an encoder for documents and queries, or ``auto``.
        features: for ``auto``: (n, D), the collection or a random sample of it. Eight rows per pivot are enough.
        documents: for ``auto``: the number of documents that the index will hold; default: n.
        preset: for ``auto``: the preset.
        seed: for ``auto``: seed of the sampling.

    Raises:
        InvalidInput: the preset is unknown; ``auto`` has fewer than two features; an encoder is given together with
            features or documents; or `encoder` is a string other than ``auto``.
    """
    if isinstance(encoder, str):
        if encoder != "auto":
            raise InvalidInput(f"encoder is {encoder!r}; expected an encoder, or 'auto'")
    elif features is None and documents is None:
        return SelectedEncoder(encoder)
    else:
        raise InvalidInput(f"features and documents are for encoder='auto'; got encoder {encoder}: omit them")
    if preset not in get_args(PresetName):
        raise InvalidInput(f"preset is {preset!r}; expected one of {', '.join(get_args(PresetName))}")
    if features is None:
        raise InvalidInput(
            "encoder='auto' samples pivots from features; pass features=, the collection or a few thousand rows of it"
        )
    rows = as_array(features)
    expected = (len(rows) if rows.ndim else 0) if documents is None else documents
    settings = PRESETS[preset]
    pivots = sample_pivots(rows, settings.choose_pivot_count(expected), method="auto", seed=seed)
    return SelectedEncoder(
        PivotPermutation(pivots, top_k=settings.top_k, query_top_k=settings.query_top_k, spill="soar"),
        rerank=settings.rerank,
    )
