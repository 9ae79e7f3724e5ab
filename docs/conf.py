"""The documentation as a site, which scripts/docs builds: the repository's own Markdown files, and a reference."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "deepterms"
author = "the authors of deepterms"
html_title = "deepterms"
html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
html_copy_source = html_show_sourcelink = html_show_copyright = False
pygments_style, pygments_dark_style = "friendly", "monokai"

# The source is the top of the checkout, so that every link which works here works on the site too.
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "docs/*",
    "index_templates/README.md",
    "ingest_pipelines/README.md",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "benchmarks/results/paper/*.md",
]
exclude_patterns = [".*", "client", "site", "tests"]  # would be walked through all the same
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
napoleon_use_ivar = True
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"

CONTENTS = """
```{toctree}
:hidden:

How it works <docs/how-it-works>
CHANGELOG
```

```{toctree}
:hidden:
:caption: Use

The search page and the HTTP API <docs/serve>
docs/api
Python reference <docs/reference>
With curl alone <ingest_pipelines/README>
```

```{toctree}
:hidden:
:caption: Choose

docs/choosing
Pivots against k-NN <docs/pivots>
From dense vectors <docs/from-dense-vectors>
```

```{toctree}
:hidden:
:caption: Operate

Deploy, secure, back up <docs/operate>
Migrate and examine <docs/migrate>
index_templates/README
```

```{toctree}
:hidden:
:glob:
:caption: Measured

benchmarks/README
How many pivots <benchmarks/results/choice-real-16992>
benchmarks/results/*
benchmarks/results/paper/*
```
"""
# What no part names comes last.
PAGES = [f"docs/{page.stem}" for page in sorted(Path(__file__).parent.glob("*.md"))]
OTHERS = [page for page in PAGES if page not in CONTENTS]
CONTENTS = CONTENTS.replace("benchmarks/README\n", "\n".join(["benchmarks/README", *OTHERS, ""]))


def add_contents(_: Sphinx, name: str, source: list[str]) -> None:
    """Put the contents into the first page; elsewhere than here they would be read as text."""
    if name == root_doc:
        source[0] += CONTENTS


def copy_first_page(app: Sphinx, error: Exception | None) -> None:
    """Make the first page what a browser looks for."""
    if error is None:
        shutil.copyfile(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
    app.connect("build-finished", copy_first_page)
