"""Folders and options that name a judged collection, into descriptors with what is right for each query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from deepterms.cache import cache_folder
from deepterms.cli.photos import extract_folder, extractor_of, name_failures
from deepterms.cli.terminal import note, progress
from deepterms.errors import EncoderMismatch, InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepterms.evaluation import JudgedFeatures, Judgements
    from deepterms.features import EmbeddingFolder, FeatureStore

__all__ = ["DifficultyChoice", "Judged", "own_collection", "package_crops"]


class DifficultyChoice(str, Enum):
    """What `--difficulty` takes."""

    easy = "easy"
    medium = "medium"
    hard = "hard"


@dataclass(frozen=True)
class Judged:
    """What `--qrels` and `--difficulty` name.

    Attributes:
        qrels: ``holidays``, or a path.
        difficulty: of the revisited protocols.
    """

    qrels: str
    difficulty: DifficultyChoice

    def judgements(self, ids: Sequence[str]) -> Judgements:
        """What is right among photographs of these ids."""
        from deepterms.evaluation import holidays_judgements, read_oxford, read_qrels, read_revisited

        path = Path(self.qrels)
        if self.qrels == "holidays" and not path.exists():
            return holidays_judgements(ids)
        if path.is_dir():
            return read_oxford(path)
        if path.suffix in {".pkl", ".json"}:
            return read_revisited(path, difficulty=self.difficulty.value)
        return read_qrels(path)


def package_crops(crops: int, *, mixtures: int) -> tuple[JudgedFeatures, NDArray[np.float32]]:
    """Crops of package photographs, and those of other photographs; mixtures are of a half of the latter alone."""
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


def own_collection(
    source: Path,
    judged: Judged,
    *,
    queries: Path | None,
    distractors: Sequence[Path],
    foreign: Path | None,
    mixtures: int,
    seed: int,
    output: Path,
) -> tuple[JudgedFeatures, NDArray[np.float32] | None]:
    """A collection of the user's, with its distractors, and descriptors of unrelated photographs."""
    from deepterms.evaluation import FeatureStream, JudgedFeatures, MixedFeatures, StoredFeatures, sample_rows

    if mixtures and foreign is None:
        raise InvalidInput("--mixtures are made of descriptors of other photographs; name some with --foreign")
    store = _descriptors(source, output)
    ids = [id for batch in store.batches() for id in batch.ids]
    judgements = judged.judgements(ids)
    names = [*judgements.relevant, *(id for relevant in judgements.relevant.values() for id in relevant)]
    if not any(name.endswith(".jpg") for name in names):  # ground truths name images, stores their files
        ids = [id.removesuffix(".jpg") for id in ids]
    if queries is None:
        if judgements.boxes:
            note(
                "[yellow]queries are whole photographs here;[/yellow] the protocol cuts them to their boxes: --queries"
            )
        vectors = _vectors(store, ids, {judgements.images.get(query, query) for query in judgements.queries})
        asked = {
            query: vectors[image]
            for query in judgements.queries
            if (image := judgements.images.get(query, query)) in vectors
        }
    else:
        given = _alike(store, queries, output)
        theirs = (id for batch in given.batches() for id in batch.ids)
        known = judgements.relevant.keys()
        asked = _vectors(given, [id if id in known else id.removesuffix(".jpg") for id in theirs], None)
    added: list[FeatureStream] = [StoredFeatures(_alike(store, path, output)) for path in distractors]
    unrelated = None
    if foreign is not None:
        from deepterms.paper.figure1 import MAX_TRAINING_ROWS

        unrelated = sample_rows((StoredFeatures(_alike(store, foreign, output)),), MAX_TRAINING_ROWS, seed=seed)
    if mixtures and unrelated is not None:
        half = len(unrelated) // 2
        added.append(MixedFeatures(unrelated[half:], mixtures))
        unrelated = unrelated[:half]
    collection = JudgedFeatures.from_ids(
        source.name,
        judgements,
        ids=ids,
        features=StoredFeatures(store),
        queries=asked,
        distractors=added,
    )
    return collection, unrelated


def _descriptors(source: Path, output: Path) -> FeatureStore | EmbeddingFolder:
    """A store as it is; photographs are described into one first, so a cut run goes on."""
    from deepterms.features import EmbeddingFolder, FeatureStore

    if (source / "store.json").exists():
        return FeatureStore.open(source)
    if EmbeddingFolder.found_in(source):
        return EmbeddingFolder.open(source)
    output.mkdir(parents=True, exist_ok=True)
    extractor = extractor_of("efficientnet_lite0", None, "imagenet", "default")
    described = extract_folder(extractor, source.resolve(), output / f"{source.resolve().name}-features")
    name_failures(described.failures)
    return described.store


def _alike(store: FeatureStore | EmbeddingFolder, source: Path, output: Path) -> FeatureStore | EmbeddingFolder:
    """The descriptors of a folder, which the same extractor must have made, as far as both say."""
    other = _descriptors(source, output)
    if store.spec and other.spec and dict(store.spec) != dict(other.spec):
        raise EncoderMismatch(
            f"{source} holds descriptors of another extractor than {store.folder}, which cannot be compared; describe "
            "both with the same options of `deepterms extract`"
        )
    return other


def _vectors(
    store: FeatureStore | EmbeddingFolder, ids: Sequence[str], wanted: set[str] | None
) -> dict[str, NDArray[np.float32]]:
    """Descriptors of some ids, or of all."""
    found: dict[str, NDArray[np.float32]] = {}
    start = 0
    for batch in store.batches():
        for row, id in enumerate(ids[start : start + len(batch.ids)]):
            if wanted is None or id in wanted:
                found[id] = batch.features[row].copy()
        start += len(batch.ids)
    return found
