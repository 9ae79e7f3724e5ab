"""Presets: from the number of documents and a sample of them to an encoder, and how many candidates to re-rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pivot_permutation import PivotPermutation
from deepterms.encoders.pivot_sampling import sample_pivots
from deepterms.errors import InvalidInput

__all__ = ["FEWEST_PIVOTS", "MOST_PIVOTS", "PRESETS", "Chosen", "Preset", "PresetName", "chosen_encoder", "pivot_count"]

PresetName: TypeAlias = Literal["small", "balanced", "accurate"]
"""How much time and space a search may take."""

FEWEST_PIVOTS = 256
SMALLEST_SHARE = 4  # documents a pivot, where pivots are compared one by one
MOST_FOR_SMALL = 4_096
MOST_PIVOTS = 65_536  # 168 MB of 1,280 dimensions, which each client holds


@dataclass(frozen=True)
class Preset:
    """What goes together.

    Attributes:
        documents_a_pivot: how many, as nearly as a power of two allows; fewer in small collections.
        top_k: words a document.
        query_top_k: words a query.
        rerank: candidates.
    """

    documents_a_pivot: int
    top_k: int
    query_top_k: int
    rerank: int


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "small": Preset(documents_a_pivot=32, top_k=4, query_top_k=16, rerank=500),
        "balanced": Preset(documents_a_pivot=32, top_k=4, query_top_k=32, rerank=1_000),
        "accurate": Preset(documents_a_pivot=16, top_k=8, query_top_k=64, rerank=4_000),
    }
)


@dataclass(frozen=True)
class Chosen:
    """An encoder, and how many candidates go with it.

    Attributes:
        encoder: given or made.
        rerank: how many candidates; None if the encoder is to say.
    """

    encoder: Encoder
    rerank: int | None = None


def pivot_count(documents: int, *, documents_a_pivot: int) -> int:
    """The power of two nearest to a pivot for so many documents, from 256 to 65,536.

    A small collection gets one for four documents, up to 4,096: R@10 of 10,000 mixtures was .904 with 512 and
    .954 with 2,048, which also read a quarter of the postings.

    Raises:
        InvalidInput: no documents are expected.
    """
    if documents < 1:
        raise InvalidInput(f"documents is {documents}; expected how many the index will hold, at least 1")
    least = min(documents / SMALLEST_SHARE, MOST_FOR_SMALL)
    wanted = 2 ** round(np.log2(max(1.0, least, documents / documents_a_pivot)))
    return max(FEWEST_PIVOTS, min(int(wanted), MOST_PIVOTS))


def chosen_encoder(
    encoder: Encoder | Literal["auto"],
    *,
    features: ArrayLike | None = None,
    documents: int | None = None,
    preset: PresetName = "balanced",
    seed: int = 0,
) -> Chosen:
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
        return Chosen(encoder)
    else:
        raise InvalidInput(f"features and documents choose an encoder; {encoder} is given, so leave them out")
    if preset not in get_args(PresetName):
        raise InvalidInput(f"preset is {preset!r}; expected one of {', '.join(get_args(PresetName))}")
    if features is None:
        raise InvalidInput("encoder='auto' samples pivots; give it features=, the collection's or some thousands of it")
    rows: Any = features if isinstance(features, np.ndarray) else np.asarray(features)
    expected = (len(rows) if rows.ndim else 0) if documents is None else documents
    wanted = PRESETS[preset]
    count = pivot_count(expected, documents_a_pivot=wanted.documents_a_pivot)
    pivots = sample_pivots(rows, count, method="auto", seed=seed)
    return Chosen(PivotPermutation(pivots, top_k=wanted.top_k, query_top_k=wanted.query_top_k), rerank=wanted.rerank)
