"""Turns ranked photographs into one self-contained HTML page: each query with its hits, thumbnails embedded."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from deepterms.optional import require
from deepterms.results import Hits

__all__ = ["GalleryRow", "write_gallery"]

THUMBNAIL_SIDE = 208  # pixels, longer side: twice the displayed size, for high-density screens


@dataclass(frozen=True)
class GalleryRow:
    """One query and its hits.

    Attributes:
        query: file of the query photograph.
        title: title of the query.
        hits: best first; ``path`` in their metadata is the file of the photograph.
        relevant: ids that are relevant to the query; empty if unknown.
        terms: the query's codewords and their term frequencies, largest first.
    """

    query: Path
    title: str
    hits: Hits
    relevant: frozenset[str] = frozenset()
    terms: Mapping[str, int] | None = None


def write_gallery(rows: Sequence[GalleryRow], file: Path, *, title: str, facts: Mapping[str, str]) -> None:
    """Write the page.

    Args:
        rows: one per query.
        file: the HTML file to write; an existing one is replaced.
        title: title of the page.
        facts: name → value, shown at the top.

    Raises:
        MissingExtra: jinja2 or Pillow is not installed.
    """
    with require("jinja2", "features"):
        import jinja2
    source = (resources.files("deepterms.cli") / "gallery.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    shown = [
        {
            "title": row.title,
            "image": _encode_thumbnail(row.query),
            "judged": bool(row.relevant),
            "words": " ".join(f"{word}×{count}" for word, count in list((row.terms or {}).items())[:12]),
            "took": f"{row.hits.took_ms:.0f} ms",
            "hits": [
                {
                    "rank": rank,
                    "score": f"{hit.score:.3f}" if hit.score <= 1 else f"{hit.score:,.0f}",
                    "name": hit.id,
                    "image": _encode_thumbnail(Path(str(hit.metadata.get("path", "")))),
                    "right": hit.id in row.relevant,
                }
                for rank, hit in enumerate(row.hits, start=1)
            ],
        }
        for row in rows
    ]
    page = environment.from_string(source).render(title=title, facts=facts, rows=shown)
    partial = file.with_name(file.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(file)


def _encode_thumbnail(path: Path) -> str:
    """Return the thumbnail as a data URI; empty if the photograph can no longer be read."""
    from deepterms.errors import UnreadableImage
    from deepterms.features import load_image

    try:
        image = load_image(path, min_side=THUMBNAIL_SIDE)
    except UnreadableImage:
        return ""
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
