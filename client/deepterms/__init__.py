"""Large-scale image retrieval on a stock Elasticsearch or OpenSearch: image descriptors as surrogate text."""
