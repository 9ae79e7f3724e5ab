"""EmailTokenizer.java into an Elasticsearch module, for images built here; the official ones include it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import docker

from deepterms.node.jars import create_maven_context
from tests.clusters import ClusterUnavailable, images

__all__ = ["provide_email_tokenizer"]

_SOURCE = Path(__file__).with_name("EmailTokenizer.java")
_COMPILER = ("org.eclipse.jdt", "ecj", "3.40.0")  # runs on the Java of the image, which has no compiler
_COMPILE = """
libraries=(lib/*.jar)
jdk/bin/java -jar /work/compiler.jar --release 21 -cp "$(IFS=: && echo "${libraries[*]}")" -d /work /work/*.java
"""
_DESCRIPTOR = """\
description=tokenizer of the security index
version=9.2.0
elasticsearch.version=9.2.0
java.version=21
name=analysis-email
classname=EmailTokenizer
"""


def provide_email_tokenizer(folder: Path) -> Path | None:
    """Compile the module into a new folder below `folder`.

    Returns:
        The module's folder; None if the image does not need it.

    Raises:
        ClusterUnavailable: it cannot be compiled.
    """
    with images.connect(timeout=120) as client:
        if not images.is_built_here(client.images.get(images.ELASTICSEARCH)):
            return None
        work, module = folder / "work", folder / "analysis-email"
        work.mkdir()
        work.chmod(0o777)  # the image's user writes there
        module.mkdir()
        (work / _SOURCE.name).write_bytes(_SOURCE.read_bytes())
        group, name, version = _COMPILER
        try:
            jar = create_maven_context(folder / "maven").project(group, name).at_version(version).artifact().resolve()
            (work / "compiler.jar").write_bytes(Path(jar).read_bytes())
            client.containers.run(
                images.ELASTICSEARCH,
                entrypoint=["bash", "-ec", _COMPILE],
                volumes={str(work): {"bind": "/work", "mode": "rw"}},
                labels={images.CONTAINER_LABEL: "true"},
                remove=True,
            )
        except (docker.errors.DockerException, OSError, RuntimeError) as error:
            raise ClusterUnavailable(f"the tokenizer of the security index cannot be compiled: {error}") from error
    with zipfile.ZipFile(module / "analysis-email.jar", "w") as archive:
        for compiled in work.glob("*.class"):
            archive.write(compiled, compiled.name)
    (module / "plugin-descriptor.properties").write_text(_DESCRIPTOR)
    return module
