"""What lies in an index: layouts, templates, pipelines, stored vectors and scripts; no input or output."""
