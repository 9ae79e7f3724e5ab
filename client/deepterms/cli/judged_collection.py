"""Turns options that name a judged collection into its descriptors and relevance judgements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from deepterms.cache import cache_folder
from deepterms.cli.photos import build_extractor, extract_folder, report_unreadable
from deepterms.cli.terminal import note, progress
from deepterms.errors import EncoderMismatch, InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepterms.evaluation import JudgedFeatures, Judgements
    from deepterms.features import EmbeddingFolder, FeatureStore

__all__ = ["DifficultyChoice", "JudgementSource", "describe_package_crops", "load_collection"]


class DifficultyChoice(str, Enum):
    """Values of `--difficulty`."""

    easy = "easy"
    medium = "medium"
    hard = "hard"


@dataclass(frozen=True)
class JudgementSource:
    """The relevance judgements that `--qrels` and `--difficulty` name.

    Attributes:
        qrels: ``holidays``, or a path.
        difficulty: difficulty of the revisited Oxford and Paris protocols.
    """

    qrels: str
    difficulty: DifficultyChoice

    def read(self, ids: Sequence[str]) -> Judgements:
        """Read the judgements of a collection of photographs with these ids."""
        from deepterms.evaluation import holidays_judgements, read_oxford, read_qrels, read_revisited

        path = Path(self.qrels)
        if self.qrels == "holidays" and not path.exists():
            return holidays_judgements(ids)
        if path.is_dir():
            return read_oxford(path)
        if path.suffix in {".pkl", ".json"}:
            return read_revisited(path, difficulty=self.difficulty.value)
        return read_qrels(path)


def describe_package_crops(crops: int, *, mixtures: int) -> tuple[JudgedFeatures, NDArray[np.float32]]:
    """Describe crops of package photographs, and crops of unrelated photographs.

    Args:
        crops: number of crops per photograph.
        mixtures: number of distractors to mix from one half of the unrelated descriptors; the other half is returned.

    Returns:
        The collection, and the unrelated descriptors, float32 (n, D).
    """
    from deepterms.evaluation import MixedFeatures
    from deepterms.evaluation.photos.crops import describe_crops

    with progress("Describing crops") as report:
        described = describe_crops(cache_folder() / "benchmarks", crops=crops, on_progress=report)
    collection, unrelated = described.to_judged_features(), described.foreign
    if not mixtures:
        return collection, unrelated
    half = len(unrelated) // 2
    added = MixedFeatures(unrelated[half:], mixtures)
    name = f"{collection.name} and mixtures"
    return replace(collection, name=name, distractors=(added,)), unrelated[:half]


def load_collection(
    source: Path,
    judgement_source: JudgementSource,
    *,
    queries: Path | None,
    distractors: Sequence[Path],
    foreign: Path | None,
    mixtures: int,
    seed: int,
    output: Path,
) -> tuple[JudgedFeatures, NDArray[np.float32] | None]:
    """Load the user's own collection with its distractors, and descriptors of unrelated photographs.

    Args:
        source: photographs or descriptors that are judged.
        judgement_source: the relevance judgements.
        queries: photographs or descriptors of the queries; None: those of the collection.
        distractors: photographs or descriptors that are relevant to no query.
        foreign: photographs or descriptors that are unrelated to the collection.
        mixtures: number of distractors to mix from one half of the unrelated descriptors.
        seed: seed of the sample of unrelated descriptors.
        output: folder for the descriptors of photographs.

    Returns:
        The collection, and the unrelated descriptors that were not mixed, float32 (n, D); None without `foreign`.

    Raises:
        InvalidInput: there is nothing to mix.
        EncoderMismatch: descriptors are of different extractors.
    """
    from deepterms.evaluation import FeatureStream, JudgedFeatures, MixedFeatures, StoredFeatures, sample_rows

    if mixtures and foreign is None:
        raise InvalidInput("--mixtures needs descriptors of unrelated photographs to mix; name some with --foreign")
    store = _open_or_describe(source, output)
    ids = [id for batch in store.batches() for id in batch.ids]
    judgements = judgement_source.read(ids)
    names = [*judgements.relevant, *(id for relevant in judgements.relevant.values() for id in relevant)]
    if not any(name.endswith(".jpg") for name in names):  # ground truths list image names, stores list file names
        ids = [id.removesuffix(".jpg") for id in ids]
    if queries is None:
        if judgements.boxes:
            note(
                "[yellow]queries are whole photographs here;[/yellow] the protocol crops them to their boxes; pass "
                "descriptors of the crops with --queries"
            )
        vectors = _collect_vectors(store, ids, {judgements.images.get(query, query) for query in judgements.queries})
        query_features = {
            query: vectors[image]
            for query in judgements.queries
            if (image := judgements.images.get(query, query)) in vectors
        }
    else:
        given = _open_comparable(store, queries, output)
        theirs = (id for batch in given.batches() for id in batch.ids)
        known = judgements.relevant.keys()
        query_features = _collect_vectors(
            given, [id if id in known else id.removesuffix(".jpg") for id in theirs], None
        )
    added: list[FeatureStream] = [StoredFeatures(_open_comparable(store, path, output)) for path in distractors]
    unrelated = None
    if foreign is not None:
        from deepterms.paper.figure1 import MAX_TRAINING_ROWS

        unrelated = sample_rows(
            (StoredFeatures(_open_comparable(store, foreign, output)),), MAX_TRAINING_ROWS, seed=seed
        )
    if mixtures and unrelated is not None:
        half = len(unrelated) // 2
        added.append(MixedFeatures(unrelated[half:], mixtures))
        unrelated = unrelated[:half]
    collection = JudgedFeatures.from_ids(
        source.name,
        judgements,
        ids=ids,
        features=StoredFeatures(store),
        queries=query_features,
        distractors=added,
    )
    return collection, unrelated


def _open_or_describe(source: Path, output: Path) -> FeatureStore | EmbeddingFolder:
    """Open a store, or describe photographs into a new one; rerun to resume after an interruption."""
    from deepterms.features import EmbeddingFolder, FeatureStore

    if (source / "store.json").exists():
        return FeatureStore.open(source)
    if EmbeddingFolder.found_in(source):
        return EmbeddingFolder.open(source)
    output.mkdir(parents=True, exist_ok=True)
    extractor = build_extractor("efficientnet_lite0", None, "imagenet", "default")
    described = extract_folder(extractor, source.resolve(), output / f"{source.resolve().name}-features")
    report_unreadable(described.failures)
    return described.store


def _open_comparable(
    store: FeatureStore | EmbeddingFolder, source: Path, output: Path
) -> FeatureStore | EmbeddingFolder:
    """Open the descriptors of a folder, and require the extractor of `store` if both record theirs."""
    other = _open_or_describe(source, output)
    if store.spec and other.spec and dict(store.spec) != dict(other.spec):
        raise EncoderMismatch(
            f"{source} holds descriptors of another extractor than {store.folder}, so they cannot be compared; "
            "describe both with the same options of `deepterms extract`"
        )
    return other


def _collect_vectors(
    store: FeatureStore | EmbeddingFolder, ids: Sequence[str], wanted: set[str] | None
) -> dict[str, NDArray[np.float32]]:
    """Collect the descriptors of the wanted ids, or of all."""
    found: dict[str, NDArray[np.float32]] = {}
    start = 0
    for batch in store.batches():
        for row, id in enumerate(ids[start : start + len(batch.ids)]):
            if wanted is None or id in wanted:
                found[id] = batch.features[row].copy()
        start += len(batch.ids)
    return found
