"""The contents of an index as pure data: layouts, templates, pipelines, stored vectors and scripts; no I/O."""
