"""Real Elasticsearch and OpenSearch for the tests, in Docker."""


class ClusterUnavailable(Exception):
    """This machine cannot run the cluster that a test needs; the message says why.

    A test that raises it, or whose fixture does, is skipped and named at the end; `--require-clusters` makes it fail.
    """
