"""What lies behind a name: concrete indices, their pipelines and their pivots."""
