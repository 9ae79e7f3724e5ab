"""deepterms serve: an index on a page in the browser, and behind an HTTP API."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape

from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.indexing import matching_extractor
from deepterms.cli.photos import WeightsOption, WhiteningOption
from deepterms.cli.signals import handled
from deepterms.cli.terminal import note
from deepterms.errors import InvalidInput, MissingExtra
from deepterms.index import SurrogateIndex

if TYPE_CHECKING:
    from deepterms.features import RMACExtractor
    from deepterms.web.access import Access

__all__ = ["run_server", "serve"]

DEFAULT_PORT = 8000
PORTS_TRIED = 20
BACKLOG = 128


def serve(
    name: Annotated[str, typer.Argument(help="The index.")],
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            "--photos",
            help="A folder whose photographs may be shown; can be repeated. Default: none is shown.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen. Others than this machine's own want a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int | None,
        typer.Option(help="Default: the first free one from 8000 on.", min=0, max=65_535, show_default=False),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with a token that requests must show. Also read: DEEPTERMS_SERVE_TOKEN.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="A further name of this server, as of a proxy before it.", show_default=False),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse to add and delete.")] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="A line on stderr for each request.")] = False,
    weights: WeightsOption = "imagenet",
    whitening: WhiteningOption = "default",
    url: UrlOption = None,
) -> None:
    """Search an index in the browser, and by HTTP from any language.

    Listens at 127.0.0.1 unless told otherwise. Without --photos only names are shown, no photographs.
    """
    from deepterms.web.access import Access

    access = Access.of(host, token=_token(token_file), names=names or (), read_only=read_only)
    index = SurrogateIndex.open(connect(url), name)
    try:
        extractor: RMACExtractor | None = matching_extractor(index, weights, whitening)
    except (MissingExtra, InvalidInput) as error:
        note(f"[yellow]no search by picture:[/yellow] {escape(str(error))}")
        extractor = None
    if not photos:
        note("no photographs will be shown; name their folder with --photos")
    if access_log:
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
        logging.getLogger("deepterms.web").setLevel(logging.INFO)
    run_server(index, extractor, photographs=photos or (), access=access, host=host, port=port)


def run_server(
    index: SurrogateIndex,
    extractor: RMACExtractor | None,
    *,
    photographs: Sequence[Path],
    access: Access | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    query: str | None = None,
    browser: bool = False,
) -> None:
    """Serve an index until Ctrl-C.

    Args:
        index: to serve.
        extractor: of its descriptors; None: no search by picture.
        photographs: folders whose files may be shown.
        access: who may ask.
        host: to listen at.
        port: to listen at; default: the first free one from 8000 on.
        query: the id of a document that the page begins with.
        browser: open the page in this machine's browser, if there is one.

    Raises:
        InvalidInput: the address cannot be listened at.
        MissingExtra: the extra ``serve`` is not installed.
    """
    from deepterms.web import create_app

    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise MissingExtra("uvicorn", "serve") from error
    app = create_app(index, describer=extractor, photographs=photographs, access=access)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="on", timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    # Ctrl-C ends it from its first word on. Uvicorn sees to that once its event loop runs; an interrupt while that loop
    # is made leaves half of one behind.
    with _listening(host, port) as listening, handled(signal.SIGINT, server.handle_exit):
        address = _address(host, listening)
        begin = "" if query is None else f"#id={quote(query, safe='')}"
        if access is not None and access.token is not None:
            note("the page will ask for the token; programs send it as Authorization: Bearer")
        note(f"[bold]{escape(address)}/{escape(begin)}[/bold]   the page; Ctrl-C ends it")
        note(f"{escape(address)}/openapi.json   the API")
        if browser and _has_screen():
            webbrowser.open(f"{address}/{begin}")  # its requests wait until the server takes them
        server.run(sockets=[listening])


def _has_screen() -> bool:
    """Whether a browser would have a window; one in the terminal would hide what stands there."""
    return sys.platform in {"darwin", "win32"} or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("DEEPTERMS_SERVE_TOKEN") or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the token cannot be read from {file}: {error}") from error


def _listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens.

    Raises:
        InvalidInput: it cannot.
    """
    ports = [port] if port is not None else range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED)
    last: OSError | None = None
    for wanted in ports:
        try:
            family = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, wanted), family=family, backlog=BACKLOG)
        except OSError as error:
            last = error
            if error.errno != errno.EADDRINUSE:
                break
    where = f"{host}:{port}" if port is not None else f"{host}, ports {ports[0]} to {ports[-1]}"
    raise InvalidInput(f"cannot listen at {where}: {last}; choose others with --host and --port") from last


def _address(host: str, listening: socket.socket) -> str:
    """As a browser on this machine would say it."""
    port: Any = listening.getsockname()[1]
    name = "127.0.0.1" if host in {"0.0.0.0", "::"} else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
