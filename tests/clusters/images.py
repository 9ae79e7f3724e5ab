"""Names of the engines' images into images in the Docker daemon: already there, pulled, or built from packages.

`python -m tests.clusters.images` is the set-up step of `scripts/test`. Nothing else builds images.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import docker
import docker.errors
from testcontainers.core.docker_client import DockerClient, get_docker_host

from deepterms.errors import NodeError
from deepterms.node.assembly import assemble
from deepterms.node.distribution import CONFIG, MODULES, VERSION, has_agent
from deepterms.node.jars import create_maven_context, hash_file
from deepterms.node.java_arguments import java_arguments
from deepterms.node.lock import Lock, load_lock, locate_lock
from tests.clusters import ClusterUnavailable

__all__ = ["CONTAINER_LABEL", "ELASTICSEARCH", "OPENSEARCH", "connect", "provide"]

_ELASTICSEARCH_VERSION = "9.2.0"
_OPENSEARCH_REPOSITORY = "opensearchproject/opensearch:"
_OFFICIAL_OPENSEARCH = f"{_OPENSEARCH_REPOSITORY}{VERSION}"
_OFFICIAL_ELASTICSEARCH = f"elasticsearch:{_ELASTICSEARCH_VERSION}"

OPENSEARCH = os.environ.get("DEEPTERMS_OPENSEARCH_IMAGE") or _OFFICIAL_OPENSEARCH
ELASTICSEARCH = os.environ.get("DEEPTERMS_ELASTICSEARCH_IMAGE") or _OFFICIAL_ELASTICSEARCH

# On the containers of the tests, so that those of a killed run are not confused with other containers.
CONTAINER_LABEL = "deepterms.tests"
# On images built here: the hash of their inputs. Images without it were pulled.
_INPUTS_LABEL = "deepterms.inputs"

# The modules (Painless, ingest, analysis and more) that Elasticsearch on Maven Central lacks, one folder each.
_MODULES_VARIABLE = "DEEPTERMS_ELASTICSEARCH_MODULES"
_ELASTICSEARCH_GROUP = "org.elasticsearch.distribution.integ-test-zip"
_ELASTICSEARCH_SHA256 = "bf44938a0490ba2a303d39c9cb64b38963dd08c812ce93e10816e878585bcb6b"

# Permissions that modules of OpenSearch 2 need from Java's security manager; in its archive, but not in the jars.
_PERMISSIONS = {
    "lang-mustache": ('java.lang.RuntimePermission "accessDeclaredMembers"',),
    "lang-painless": (
        'java.lang.RuntimePermission "createClassLoader"',
        'java.lang.RuntimePermission "getClassLoader"',
    ),
    "transport-netty4": (
        'java.io.FilePermission "/proc/sys/net/core/somaxconn", "read"',
        'java.lang.RuntimePermission "*", "setContextClassLoader"',
        'java.lang.RuntimePermission "getClassLoader"',
        'java.net.SocketPermission "*", "accept,connect"',
        'java.util.PropertyPermission "sun.nio.ch.bugLevel", "write"',
    ),
}

_BASE = "deepterms-test-base:latest"
_DEBIAN = "trixie"  # the first release with Java 21, which both engines need
_PACKAGES = ("openjdk-21-jre-headless", "ca-certificates", "curl")

# Vector functions, added to the ported Painless's list of functions for scoring scripts. The other modules and the
# server itself are unmodified.
_SCORE_FUNCTIONS = Path(__file__).with_name("score_functions.txt")
_SCORE_FUNCTIONS_OF_PAINLESS = "org/elasticsearch/painless/org.elasticsearch.score.txt"

_CONTEXT = Path(__file__).parent / "image"
# As in the official images. Without it, the engines listen only inside the container.
_LISTEN = "network.host: 0.0.0.0\n"

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_REGISTRY_TIMEOUT = 20  # seconds for the registry to report whether it has the image
_LONG_TIMEOUT = 900  # seconds for the daemon to pull or build it


@dataclass(frozen=True)
class Recipe:
    """How to build the image of one engine.

    Attributes:
        engine: the name of the folder, and of the command in its bin/.
        inputs: hash of all the image's inputs.
        unpack: writes the engine's distribution to a folder.
    """

    engine: str
    inputs: str
    unpack: Callable[[Path], None]


@contextmanager
def connect(timeout: int = 60) -> Iterator[docker.DockerClient]:
    """Connect to the Docker daemon that testcontainers uses.

    Raises:
        ClusterUnavailable: no daemon responds.
    """
    host = get_docker_host() or _DEFAULT_HOST
    try:
        if host.startswith("unix:"):
            # If it cannot connect, docker-py leaves a socket open, which fails the next test.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(host.removeprefix("unix://"))
        client = DockerClient(timeout=timeout).client
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise ClusterUnavailable(f"Docker does not answer at {host} ({error})") from error
    with closing(client):
        yield client


def provide(image: str, *, build: bool = False) -> None:
    """Ensure that the Docker daemon has an image.

    Args:
        image: its name and tag.
        build: whether to build it if it cannot be pulled, or if it was built from outdated inputs.

    Raises:
        ClusterUnavailable: the image is unavailable.
    """
    recipe = _recipe(image) if build else None
    with connect() as client:
        local = _find(client, image)
    if local:
        if not recipe or local.labels.get(_INPUTS_LABEL) in (None, recipe.inputs):
            return
    else:
        try:
            _pull(image)
            return
        except ClusterUnavailable:
            if not recipe:
                raise
    _build(image, recipe)


def is_built_here(image: Any) -> bool:
    """Whether an image was built from packages, not pulled."""
    return _INPUTS_LABEL in image.labels


def _find(client: docker.DockerClient, image: str) -> Any:
    try:
        return client.images.get(image)
    except docker.errors.ImageNotFound:
        return None


def _pull(image: str) -> None:
    try:
        # Without network access this query fails within seconds; a pull would retry for minutes.
        with connect(_REGISTRY_TIMEOUT) as client:
            client.api.inspect_distribution(image)
        _say(f"pulling {image}")
        with connect(_LONG_TIMEOUT) as client:
            client.images.pull(image)
    except (docker.errors.DockerException, OSError) as error:
        hint = f"; set {_MODULES_VARIABLE} and run scripts/test to build it" if image == _OFFICIAL_ELASTICSEARCH else ""
        reason = getattr(error, "explanation", None) or error  # the daemon's explanation, if it gave one
        raise ClusterUnavailable(f"image {image} is not here and cannot be pulled ({reason}){hint}") from error


def _recipe(image: str) -> Recipe | None:
    if lock := _opensearch_lock(image):
        contents = [lock.to_json(), *CONFIG.values(), *(module.descriptor(lock.version) for module in MODULES)]
        contents += _policies(lock.version).values()
        inputs = _hash(*contents, _opensearch_command(lock.version), *_shared_inputs())
        return Recipe("opensearch", inputs, lambda home: _unpack_opensearch(home, lock))
    modules = os.environ.get(_MODULES_VARIABLE)
    if image == _OFFICIAL_ELASTICSEARCH and modules:
        folder = Path(modules)
        contents = [f"{path.relative_to(folder)} {hash_file(path)}" for path in sorted(folder.glob("*/*"))]
        functions = _SCORE_FUNCTIONS.read_text(encoding="utf-8")
        inputs = _hash(_ELASTICSEARCH_SHA256, *contents, functions, *_shared_inputs())
        return Recipe("elasticsearch", inputs, lambda home: _unpack_elasticsearch(home, folder))
    return None


def _opensearch_lock(image: str) -> Lock | None:
    """Find the lock of an official OpenSearch image; that of the embedded version is in deepterms, others are here."""
    version = image.removeprefix(_OPENSEARCH_REPOSITORY)
    if version == VERSION:
        return load_lock()
    here = Path(__file__).parent
    return load_lock(version, here) if version != image and locate_lock(version, here).is_file() else None


def _shared_inputs() -> list[str]:
    return [_base_inputs(), _LISTEN, *(path.read_text(encoding="utf-8") for path in sorted(_CONTEXT.iterdir()))]


def _base_inputs() -> str:
    return _hash(_DEBIAN, *_PACKAGES)


def _build(image: str, recipe: Recipe) -> None:
    try:
        # Not in /tmp, which may be small and may not allow debootstrap to create devices.
        with connect(_LONG_TIMEOUT) as client, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            _provide_base(client, Path(folder) / "base")
            _say(f"building {image}")
            context = Path(folder) / "context"
            shutil.copytree(_CONTEXT, context)
            recipe.unpack(context / recipe.engine)
            (context / recipe.engine / "config" / f"{recipe.engine}.yml").write_text(_LISTEN, encoding="utf-8")
            client.images.build(
                path=str(context),
                tag=image,
                buildargs={"base": _BASE, "engine": recipe.engine},
                labels={_INPUTS_LABEL: recipe.inputs},
                rm=True,
                forcerm=True,
            )
            client.images.prune({"dangling": True, "label": _INPUTS_LABEL})
    except docker.errors.BuildError as error:
        log = "".join(line.get("stream", "") for line in error.build_log)
        raise ClusterUnavailable(f"image {image} cannot be built: {error}\n{log}") from error
    except (docker.errors.DockerException, NodeError, OSError, RuntimeError) as error:
        raise ClusterUnavailable(f"image {image} cannot be built: {error}") from error


def _provide_base(client: docker.DockerClient, root: Path) -> None:
    """Build the base image, Debian with Java, from Debian's archive."""
    local = _find(client, _BASE)
    if local and local.labels.get(_INPUTS_LABEL) == _base_inputs():
        return
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise ClusterUnavailable(f"{_BASE} cannot be built: that needs root and debootstrap")
    _say(f"building {_BASE} from Debian's packages")
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", _DEBIAN, str(root)]
    # In a separate mount namespace, so that its mounts disappear whatever happens.
    made = subprocess.run(["unshare", "--mount", *command], capture_output=True, text=True, check=False)
    if made.returncode:
        raise ClusterUnavailable(f"{_BASE} cannot be built: {(made.stdout + made.stderr)[-1000:]}")
    unwanted = ("./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./usr/share/locale/*", "./usr/share/doc/*")
    tar = ["tar", "--directory", str(root), *(f"--exclude={pattern}" for pattern in unwanted), "--create", "."]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as archive:
        name, tag = _BASE.split(":")
        client.api.import_image_from_stream(
            archive.stdout, repository=name, tag=tag, changes=[f"LABEL {_INPUTS_LABEL}={_base_inputs()}"]
        )
    if archive.returncode:
        raise ClusterUnavailable(f"{_BASE} cannot be built: tar ended with {archive.returncode}")


def _unpack_opensearch(home: Path, lock: Lock) -> None:
    assemble(home, lock=lock)
    for path, text in _policies(lock.version).items():
        (home / path).write_text(text, encoding="utf-8")
    command = home / "bin" / "opensearch"
    command.write_text(_opensearch_command(lock.version), encoding="utf-8")
    command.chmod(0o755)


def _policies(version: str) -> dict[str, str]:
    """Return path in the distribution → security policy of a module; empty for versions with an agent."""
    if has_agent(version):
        return {}
    return {
        f"modules/{module}/plugin-security.policy": "".join(
            ["grant {\n", *(f"  permission {permission};\n" for permission in permissions), "};\n"]
        )
        for module, permissions in _PERMISSIONS.items()
    }


def _opensearch_command(version: str) -> str:
    """Return a script that starts the node like the embedded one; OPENSEARCH_JAVA_OPTS takes precedence."""
    arguments = java_arguments(PurePosixPath("/usr/share/opensearch"), version=version)
    main = arguments.index("-cp")
    options, rest = shlex.join(arguments[:main]), shlex.join(arguments[main:])
    return f'#!/bin/bash\nexec java {options} $OPENSEARCH_JAVA_OPTS {rest} "$@"\n'


def _unpack_elasticsearch(home: Path, modules: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent.parent) as folder:
        project = create_maven_context(Path(folder)).project(_ELASTICSEARCH_GROUP, "elasticsearch")
        archive = project.at_version(_ELASTICSEARCH_VERSION).artifact(packaging="zip").resolve()
        if hash_file(archive) != _ELASTICSEARCH_SHA256:
            raise ClusterUnavailable(f"{archive.name} as downloaded does not match the SHA-256 in these tests")
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
        (Path(folder) / f"elasticsearch-{_ELASTICSEARCH_VERSION}").rename(home)
    for command in (home / "bin").iterdir():
        command.chmod(0o755)  # zipfile does not restore modes
    for descriptor in modules.glob("*/plugin-descriptor.properties"):
        shutil.copytree(descriptor.parent, home / "modules" / descriptor.parent.name)
    for jar in (home / "modules" / "lang-painless").glob("lang-painless-*.jar"):
        _allow_score_functions(jar)


def _allow_score_functions(jar: Path) -> None:
    """Append `_SCORE_FUNCTIONS` to the list in a module's jar, unless it already contains them."""
    with zipfile.ZipFile(jar) as archive:
        entries = {entry: archive.read(entry) for entry in archive.infolist()}
    added = _SCORE_FUNCTIONS.read_bytes()
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries.items():
            lacks = entry.filename == _SCORE_FUNCTIONS_OF_PAINLESS and b" dotProduct(" not in content
            archive.writestr(entry, content + added if lacks else content)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Provide both images. A missing one is no error here: its tests are skipped and listed, or fail if required."""
    for image in (OPENSEARCH, ELASTICSEARCH):
        try:
            provide(image, build=True)
        except ClusterUnavailable as error:
            _say(f"continuing without it: {error}")
    with connect() as client:
        client.containers.prune({"label": CONTAINER_LABEL})


if __name__ == "__main__":
    main()
