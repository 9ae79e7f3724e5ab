"""Sphinx configuration of the website that scripts/docs builds from the Markdown files and the docstrings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "deepterms"
author = "The deepterms developers"
html_title = "deepterms"
html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
html_copy_source = html_show_sourcelink = html_show_copyright = False
pygments_style, pygments_dark_style = "friendly", "monokai"

# The source is the top of the checkout, so that every link of the repository works on the site too.
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/*",
    "index_templates/README.md",
    "ingest_pipelines/README.md",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "benchmarks/results/paper/*.md",
]
exclude_patterns = [".*", "client", "site", "tests"]  # not included, but Sphinx would walk through them
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
napoleon_use_ivar = True
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"

CONTENTS = """
```{toctree}
:hidden:

How it works <docs/how-it-works>
The paper, reproduced <docs/paper>
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
docs/metadata
A promised recall <docs/recall>
docs/limits
Pivots against k-NN <docs/pivots>
From dense vectors <docs/from-dense-vectors>
```

```{toctree}
:hidden:
:caption: Operate

Deploy, secure, back up <docs/operate>
Keep an index in sync with folders <docs/folders>
Migrate and diagnose <docs/migrate>
index_templates/README
```

```{toctree}
:hidden:
:glob:
:caption: Measured

docs/benchmarks
Run the benchmarks <benchmarks/README>
How many pivots <benchmarks/results/choice-real-16992>
benchmarks/results/*
benchmarks/results/paper/*
```

```{toctree}
:hidden:
:caption: Contribute

docs/architecture
CONTRIBUTING
SECURITY
```
"""


def add_contents(_: Sphinx, name: str, source: list[str]) -> None:
    """Append the contents to the first page; in README.md itself, other renderers would show them as text."""
    if name == root_doc:
        source[0] += CONTENTS


def copy_first_page(app: Sphinx, error: Exception | None) -> None:
    """Copy the first page to index.html, which browsers and servers look for."""
    if error is None:
        shutil.copyfile(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> None:
    """Connect the hooks; Sphinx calls this."""
    app.connect("source-read", add_contents)
    app.connect("build-finished", copy_first_page)
