"""Small collections with enough noise that no system finds everything."""

from __future__ import annotations

import numpy as np

from deepterms.evaluation import ArrayFeatures, JudgedFeatures

D = 32


def clusters(
    *, groups: int = 20, views: int = 5, distractors: int = 300, noise: float = 0.8, seed: int = 0
) -> JudgedFeatures:
    """Make groups of views around random centres; the first view is the query and is junk in its own ranking."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, 1, D))
    features = (centres + noise * rng.normal(size=(groups, views, D))).astype(np.float32).reshape(-1, D)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    others = rng.normal(size=(distractors, D)).astype(np.float32)
    first = np.arange(groups) * views
    return JudgedFeatures(
        "clusters",
        features[first],
        ArrayFeatures(features),
        relevant=tuple(np.arange(row + 1, row + views) for row in first),
        junk=tuple(np.array([row]) for row in first),
        distractors=(ArrayFeatures(others),) if distractors else (),
    )
