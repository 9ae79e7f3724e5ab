"""Presets: from the number of documents and a sample of them to an encoder, and how many candidates to re-rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pivots.permutation import PivotPermutation
from deepterms.encoders.pivots.sampling import sample_pivots
from deepterms.errors import InvalidInput

__all__ = ["MAX_PIVOTS", "MIN_PIVOTS", "PRESETS", "Preset", "PresetName", "SelectedEncoder", "select_encoder"]

PresetName: TypeAlias = Literal["small", "balanced", "accurate"]
"""How much time and space a search may take."""

MIN_PIVOTS = 256
MIN_DOCUMENTS_PER_PIVOT = 4  # documents a pivot, where pivots are compared one by one
MAX_SMALL_PIVOTS = 4_096
MANY_PIVOTS = 8_192
MAX_PIVOTS = 65_536  # 168 MB of 1,280 dimensions, which each client holds


@dataclass(frozen=True)
class Preset:
    """What goes together.

    Attributes:
        documents_per_pivot: how many, as nearly as a power of two allows; fewer in small collections.
        documents_per_extra_pivot: how many where they are so many that there are more than 8,192 pivots.
        top_k: words a document.
        query_top_k: words a query.
        rerank: candidates.
    """

    documents_per_pivot: int
    documents_per_extra_pivot: int
    top_k: int
    query_top_k: int
    rerank: int

    def choose_pivot_count(self, documents: int) -> int:
        """A power of two, from 256 to 65,536.

        A small collection gets a pivot for four documents, up to 4,096: R@10 of 10,000 mixtures was .904 with 512 and
        .954 with 2,048, which also read a quarter of the postings. With 1,000 candidates half as many of a large one
        find as much, and are assigned and held by clients for less: .990 with 16,384 of 500,000 mixtures and .993 with
        8,192, .990 with 65,536 of 2,000,000 and .989 with 32,768. With 500 candidates they find .013 less.

        Args:
            documents: how many are expected.

        Raises:
            InvalidInput: none are.
        """
        if documents < 1:
            raise InvalidInput(f"documents is {documents}; expected how many the index will hold, at least 1")
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
    """An encoder, and how many candidates go with it.

    Attributes:
        encoder: given or made.
        rerank: how many candidates; None if the encoder is to say.
    """

    encoder: Encoder
    rerank: int | None = None


def select_encoder(
    encoder: Encoder | Literal["auto"],
    *,
    features: ArrayLike | None = None,
    documents: int | None = None,
    preset: PresetName = "balanced",
    seed: int = 0,
) -> SelectedEncoder:
    """The encoder that was given, or for ``auto`` the one of a preset.

    Args:
        encoder: for documents and queries, or ``auto``.
        features: for ``auto``: (n, D), the collection or a random sample of it. Eight rows for each pivot are enough.
        documents: for ``auto``: how many the index will hold; default: n.
        preset: for ``auto``.
        seed: of the sampling.

    Raises:
        InvalidInput: no such preset; no features for ``auto``, or fewer than two; features for an encoder that needs
            none; another text than ``auto``.
    """
    if isinstance(encoder, str):
        if encoder != "auto":
            raise InvalidInput(f"encoder is {encoder!r}; expected an encoder, or 'auto'")
    elif features is None and documents is None:
        return SelectedEncoder(encoder)
    else:
        raise InvalidInput(f"features and documents choose an encoder; {encoder} is given, so leave them out")
    if preset not in get_args(PresetName):
        raise InvalidInput(f"preset is {preset!r}; expected one of {', '.join(get_args(PresetName))}")
    if features is None:
        raise InvalidInput("encoder='auto' samples pivots; give it features=, the collection's or some thousands of it")
    rows: Any = features if isinstance(features, np.ndarray) else np.asarray(features)
    expected = (len(rows) if rows.ndim else 0) if documents is None else documents
    wanted = PRESETS[preset]
    pivots = sample_pivots(rows, wanted.choose_pivot_count(expected), method="auto", seed=seed)
    return SelectedEncoder(
        PivotPermutation(pivots, top_k=wanted.top_k, query_top_k=wanted.query_top_k), rerank=wanted.rerank
    )
