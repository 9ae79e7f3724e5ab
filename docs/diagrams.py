"""The diagrams of how-it-works.md, computed by the encoders from a few small descriptors.

`python docs/diagrams.py` writes them into docs/pictures; a test compares those files with what this module draws.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

import deepterms as dt

PICTURES = Path(__file__).with_name("pictures")
WIDTH = 720
STYLE = """
svg { font: 15px system-ui, sans-serif; --text: #1b1f24; --quiet: #57606a; --line: #8c959f; --card: #f6f8fa;
  --box: #ffffff; --main: #0b7a75; --other: #b45309; --pale: #c9d1d9; }
@media (prefers-color-scheme: dark) { svg { --text: #e6edf3; --quiet: #9ea7b3; --line: #7d8590; --card: #161b22;
  --box: #22272e; --main: #4fd1c5; --other: #f6ad55; --pale: #444c56; } }
text { fill: var(--text); } .quiet { fill: var(--quiet); } .code { font-family: ui-monospace, monospace; }
.main { fill: var(--main); } .other { fill: var(--other); } .pale { fill: var(--pale); } .bold { font-weight: 600; }
.small { font-size: 13px; } .card { fill: var(--card); } .box { fill: var(--box); stroke: var(--line); }
.rule { stroke: var(--line); fill: none; } .to-main { stroke: var(--main); stroke-width: 2; }
.to-other { stroke: var(--other); stroke-width: 1.5; stroke-dasharray: 5 4; } .tip { fill: var(--line); }
.halo { stroke: var(--card); stroke-width: 4px; paint-order: stroke; }
"""


@dataclass
class Drawing:
    """One picture: shapes on a card, in light or dark colours as the reader's system prefers.

    Attributes:
        title: what it shows, in a few words.
        description: the same for readers who cannot see it.
        height: in pixels, at a width of 720.
        shapes: SVG elements.
    """

    title: str
    description: str
    height: int
    shapes: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, kind: str = "", *, anchor: str = "start") -> None:
        """Add a text at a baseline."""
        self.shapes.append(f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str = "box", *, round: float = 6) -> None:
        """Add a rectangle."""
        size = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round:g}"'
        self.shapes.append(f'<rect {size} class="{kind}"/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "rule", *, arrow: bool = False) -> None:
        """Add a straight line."""
        tip = ' marker-end="url(#tip)"' if arrow else ""
        self.shapes.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{kind}"{tip}/>')

    def dot(self, x: float, y: float, radius: float, kind: str) -> None:
        """Add a disc."""
        self.shapes.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class="{kind}"/>')

    def bars(self, values: np.ndarray, *, x: float, y: float, step: float, scale: float, kinds: list[str]) -> None:
        """Add bars from a base line at `y`: up for positive values, down for negative ones."""
        for place, (value, kind) in enumerate(zip(values, kinds, strict=True)):
            length = max(abs(float(value)) * scale, 1)
            self.box(x + place * step, y - (length if value > 0 else 0), step * 0.62, length, kind, round=2)

    def svg(self) -> str:
        """Render the file."""
        tip = (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path d="M0 0 8 4 0 8z" class="tip"/></marker></defs>'
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img">',
                f"<title>{escape(self.title)}</title>\n<desc>{escape(self.description)}</desc>",
                f"<style>{STYLE}</style>\n{tip}",
                f'<rect width="{WIDTH}" height="{self.height}" rx="10" class="card"/>',
                *self.shapes,
                "</svg>\n",
            ]
        )


def format_terms(terms: dict[str, int]) -> str:
    """Format terms as surrogate text, the most frequent first."""
    return " ".join(" ".join([name] * count) for name, count in sorted(terms.items(), key=lambda term: -term[1]))


def draw_encoding() -> Drawing:
    """Draw how a descriptor of six dimensions becomes surrogate text."""
    feature = np.array([[0.42, -0.31, 0.08, -0.66, 0.15, 0.52]], dtype=np.float32)
    encoder = dt.DeepPermutation(6, top_k=4)
    (terms,) = encoder.encode(feature).to_terms()
    rectified = np.concatenate([np.maximum(feature[0], 0), np.maximum(-feature[0], 0)])  # CReLU
    order = np.argsort(-rectified, kind="stable")[: encoder.top_k]
    kept = ["main" if place in order else "pale" for place in range(12)]
    drawing = Drawing(
        "From a descriptor to surrogate text",
        "A descriptor of six numbers is split by CReLU into twelve that are not negative; the four largest are sorted "
        f"and become codewords that occur four times to once: {format_terms(terms)}",
        470,
    )
    left, step = 250, 37
    for y, name, what in (
        (62, "descriptor", "D = 6 numbers, some negative"),
        (186, "CReLU", "[x]+ and [−x]+: 2·D = 12"),
        (314, "sort, truncate", "the K = 4 largest, by size"),
        (420, "surrogate text", "K times the first, then K − 1 …"),
    ):
        drawing.text(28, y, name, "bold")
        drawing.text(28, y + 22, what, "quiet small")
    for y in (116, 244, 360):
        drawing.line(120, y, 120, y + 34, arrow=True)
    drawing.line(left - 8, 74, left + 6 * step, 74)
    drawing.bars(
        feature[0], x=left, y=74, step=step, scale=64, kinds=["main" if x > 0 else "other" for x in feature[0]]
    )
    drawing.line(left - 8, 206, left + 12 * step, 206)
    drawing.bars(rectified, x=left, y=206, step=step, scale=64, kinds=kept)
    for place in range(12):
        drawing.text(left + place * step + 11, 226, f"t{place}", "code small quiet", anchor="middle")
    drawing.line(left - 8, 334, left + 4 * step, 334)
    drawing.bars(rectified[order], x=left, y=334, step=step, scale=64, kinds=["main"] * 4)
    for place, component in enumerate(order):
        drawing.text(left + place * step + 11, 354, f"t{component}", "code small", anchor="middle")
    for place, component in enumerate(order):
        drawing.text(left + 190, 290 + 19 * place, f"t{component} occurs {terms[f't{component}']} ×", "code small")
    drawing.box(left - 8, 398, 440, 40)
    drawing.text(left + 8, 423, format_terms(terms), "code main bold")
    return drawing


def draw_searching() -> Drawing:
    """Draw three documents in posting lists, and a query that reads some of them."""
    features = np.array(
        [
            [0.42, -0.31, 0.08, -0.66, 0.15, 0.52],
            [0.50, 0.20, -0.30, -0.60, 0.10, 0.40],
            [-0.50, 0.40, 0.60, 0.10, -0.20, 0.30],
        ],
        dtype=np.float32,
    )
    query = np.array([[0.45, -0.10, 0.20, -0.70, 0.05, 0.50]], dtype=np.float32)
    encoder = dt.DeepPermutation(6, top_k=4)
    documents = dict(zip("ABC", encoder.encode(features).to_terms(), strict=True))
    (asked,) = encoder.encode_queries(query).to_terms()
    memory = dt.MemoryIndex(encoder)
    memory.add(list(documents), features)
    scores = {hit.id: int(hit.score) for hit in memory.search(query[0], k=3, rerank=0)}
    vocabulary = sorted({name for terms in documents.values() for name in terms}, key=lambda name: int(name[1:]))
    found = ", ".join(f"{name} scores {scores[name]}" for name in scores)
    drawing = Drawing(
        "An index of surrogate text, and a query",
        "Each codeword has a list of the documents that contain it, with its frequency. The query reads the lists of "
        f"its own words and sums boost times frequency: {found}",
        96 + 34 * len(vocabulary) + 16,
    )
    drawing.text(28, 40, "documents", "bold")
    for place, (name, terms) in enumerate(documents.items()):
        y = 76 + 66 * place
        drawing.box(28, y, 160, 52)
        drawing.text(42, y + 31, name, "bold main")
        largest = sorted(terms.items(), key=lambda term: -term[1])
        for half, pair in enumerate((largest[:2], largest[2:])):
            drawing.text(66, y + 22 + 20 * half, "  ".join(f"{word}×{count}" for word, count in pair), "code small")
    drawing.line(196, 168, 232, 168, arrow=True)
    drawing.text(246, 40, "posting lists", "bold")
    drawing.text(246, 60, "coloured: read by the query", "quiet small")
    for row, word in enumerate(vocabulary):
        y = 76 + 34 * row
        kind = "main" if word in asked else "quiet"
        drawing.text(282, y + 21, word, f"code bold {kind}", anchor="end")
        held = [(name, terms[word]) for name, terms in documents.items() if word in terms]
        for place, (name, count) in enumerate(held):
            drawing.box(294 + 62 * place, y + 2, 54, 27)
            drawing.text(321 + 62 * place, y + 20, f"{name} {count}", f"code small {kind}", anchor="middle")
        if word in asked:
            drawing.text(492, y + 21, f"× {asked[word]}", "code other bold")
    drawing.text(492, 40, "boost", "bold")
    drawing.text(492, 60, "query’s", "quiet small")
    drawing.line(528, 168, 564, 168, arrow=True)
    drawing.text(576, 40, "scores", "bold")
    drawing.text(576, 60, "Σ boost × freq.", "quiet small")
    for place, (name, score) in enumerate(scores.items()):
        y = 76 + 66 * place
        drawing.box(576, y, 120, 52)
        sum_of = [f"{asked[word]}·{count}" for word, count in documents[name].items() if word in asked]
        drawing.text(590, y + 22, name, "bold main")
        drawing.text(612, y + 22, f"{score}", "bold")
        drawing.text(590, y + 42, "+".join(sum_of), "code small quiet")
    return drawing


def draw_pivots() -> Drawing:
    """Draw a document and a query among pivots in the plane."""
    rng = np.random.default_rng(4)
    grid = np.array([(x, y) for x in range(6) for y in range(4)], dtype=np.float32)
    places = grid + rng.uniform(-0.3, 0.3, grid.shape).astype(np.float32)  # (24, 2)
    document, query = np.array([[2.2, 1.55]], dtype=np.float32), np.array([[3.45, 1.75]], dtype=np.float32)
    encoder = dt.PivotPermutation(dt.Pivots(places, metric="l2"), top_k=4, query_top_k=8)
    (words,), (asked,) = encoder.encode(document).to_terms(), encoder.encode_queries(query).to_terms()
    shared = words.keys() & asked.keys()
    drawing = Drawing(
        "Pivots as codewords",
        f"Pivots are points among descriptors. A document's words are its four nearest, {', '.join(words)}; a query "
        f"names its eight nearest. They share {len(shared)} words: {', '.join(sorted(shared))}",
        400,
    )

    def at(point: np.ndarray) -> tuple[float, float]:
        return 56 + 76 * float(point[0]), 62 + 88 * float(point[1])

    for name in asked:
        drawing.line(*at(query[0]), *at(places[int(name[1:])]), "to-other")
    for name in words:
        drawing.line(*at(document[0]), *at(places[int(name[1:])]), "to-main")
    for point, kind in ((document[0], "main"), (query[0], "other")):
        drawing.dot(*at(point), 8, kind)
    for number, place in enumerate(places):
        x, y = at(place)
        name = f"t{number}"
        used = name in words or name in asked
        drawing.box(x - 5, y - 5, 10, 10, "box" if used else "pale", round=2)
        strength = " bold" if name in shared else "" if used else " quiet"
        drawing.text(x + 9, y - 8, name, f"code small halo{strength}")
    drawing.dot(520, 55, 8, "main")
    drawing.text(538, 60, "document", "bold main")
    drawing.text(512, 84, f"its {len(words)} nearest pivots:", "quiet small")
    drawing.text(512, 106, " ".join(words), "code small")
    drawing.dot(520, 147, 8, "other")
    drawing.text(538, 152, "query", "bold other")
    drawing.text(512, 176, f"its {len(asked)} nearest, weighted:", "quiet small")
    for place, (name, weight) in enumerate(sorted(asked.items(), key=lambda term: -term[1])):
        x, y = 512 + 98 * (place % 2), 198 + 20 * (place // 2)
        drawing.text(x, y, f"{name} {weight}", "code small" + (" bold" if name in shared else ""))
    drawing.text(512, 300, "shared", "bold")
    drawing.text(512, 322, f"{len(shared)} words:", "quiet small")
    drawing.text(512, 344, f"score {sum(asked[name] for name in shared):,}", "code bold")
    drawing.text(512, 366, "Others are not read.", "quiet small")
    return drawing


def draw_reranking() -> Drawing:
    """Draw one request: candidates from posting lists, then exact cosine, on each shard."""
    drawing = Drawing(
        "Re-ranking inside the cluster",
        "One request carries the query's codewords and its vector. On each shard the posting lists give the best 200 "
        "candidates; a script compares their stored vectors with the query's by exact cosine; the best k of all shards "
        "are returned.",
        330,
    )
    drawing.text(28, 40, "client", "bold")
    drawing.box(28, 60, 132, 96)
    drawing.text(94, 84, "one request", "small bold", anchor="middle")
    drawing.text(94, 108, "words and boosts", "small quiet", anchor="middle")
    drawing.text(94, 128, "and the vector", "small quiet", anchor="middle")
    drawing.box(28, 222, 132, 74)
    drawing.text(94, 252, "k hits", "bold main", anchor="middle")
    drawing.text(94, 274, "by exact cosine", "small quiet", anchor="middle")
    drawing.text(212, 40, "cluster", "bold")
    drawing.line(166, 108, 204, 108, arrow=True)
    drawing.line(204, 258, 168, 258, arrow=True)
    for shard, y in enumerate((60, 188)):
        drawing.box(212, y, 480, 108)
        drawing.text(226, y + 22, f"shard {shard + 1}", "small quiet")
        for x, width, first, second, kind in (
            (224, 132, "posting lists", "Σ boost × freq.", "bold"),
            (384, 140, "200 candidates", "the best so far", "bold"),
            (552, 130, "exact cosine", "stored vectors", "bold main"),
        ):
            drawing.box(x, y + 34, width, 58, "card")
            drawing.text(x + width / 2, y + 58, first, kind, anchor="middle")
            drawing.text(x + width / 2, y + 79, second, "small quiet", anchor="middle")
        drawing.line(358, y + 63, 382, y + 63, arrow=True)
        drawing.line(526, y + 63, 550, y + 63, arrow=True)
    return drawing


def draw_all() -> dict[str, Drawing]:
    """Return file name → drawing."""
    return {
        "encoding.svg": draw_encoding(),
        "searching.svg": draw_searching(),
        "pivots.svg": draw_pivots(),
        "reranking.svg": draw_reranking(),
    }


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for name, drawing in draw_all().items():
        (PICTURES / name).write_text(drawing.svg(), encoding="utf-8")
