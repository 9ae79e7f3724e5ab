"""Real Elasticsearch and OpenSearch for the tests, in Docker."""


class ClusterUnavailable(Exception):
    """This machine cannot run the cluster that a test needs; the message says why.

    If a test or its fixture raises this, the test is skipped and listed at the end; with `--require-clusters` it fails.
    """
