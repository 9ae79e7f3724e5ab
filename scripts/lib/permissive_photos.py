"""Copies those photographs of the demo that may be republished to a folder."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from deepterms.evaluation import build_photos
from deepterms.evaluation.collections import COLLECTION_FILE
from deepterms.evaluation.photos.manifest import read_manifest

PERMISSIVE = {"MIT", "BSD-3-Clause", "Apache-2.0", "Apache-2.0 AND BSD-3-Clause", "CC0-1.0"}


def main(target: Path) -> None:
    """Copy the groups in which every photograph has a permissive licence."""
    allowed = {
        group.number
        for group in read_manifest().groups
        if all(photograph.licence in PERMISSIVE for photograph in group.photographs)
    }
    with tempfile.TemporaryDirectory() as scratch:
        collection = build_photos(Path(scratch) / "photos")
        target.mkdir(parents=True)
        for image_id in collection.ids:
            if image_id[:4] in allowed:
                shutil.copy(collection.path(image_id), target)
        notes = {"natural_queries": collection.natural_queries, "titles": dict(collection.titles)}
        (target / COLLECTION_FILE).write_text(json.dumps(notes), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
