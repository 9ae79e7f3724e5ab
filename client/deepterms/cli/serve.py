"""deepterms serve: serves an index as a search page and an HTTP API."""

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

from deepterms.cli.connection import UrlOption, open_index
from deepterms.cli.photos import WeightsOption, WhiteningOption
from deepterms.cli.search import rebuild_extractor
from deepterms.cli.signals import handled
from deepterms.cli.terminal import note
from deepterms.errors import InvalidInput, MissingExtra
from deepterms.optional import require

if TYPE_CHECKING:
    from deepterms.features import RMACExtractor
    from deepterms.index import SurrogateIndex
    from deepterms.web.access import Access

__all__ = ["run_server", "serve"]

DEFAULT_PORT = 8000
MAX_PORTS = 20
BACKLOG = 128


def serve(
    name: Annotated[str, typer.Argument(help="The index.")],
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            "--photos",
            help="Folder whose photographs may be shown; may be repeated. Default: no photographs are shown.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. A non-loopback address requires a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to listen on. Default: the first free port from 8000 upwards.",
            min=0,
            max=65_535,
            show_default=False,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the bearer token that requests must send. Default: DEEPTERMS_SERVE_TOKEN.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="Additional host name of this server, such as that of a reverse proxy; may be repeated.",
            show_default=False,
        ),
    ] = None,
    trusted_proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            help="Address of a reverse proxy whose X-Forwarded headers are believed; may be repeated.",
            show_default=False,
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Reject requests that add or delete documents.")
    ] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request to stderr.")] = False,
    weights: WeightsOption = "imagenet",
    whitening: WhiteningOption = "default",
    url: UrlOption = None,
) -> None:
    """Serve an index as a search page and an HTTP API.

    Listens on 127.0.0.1 by default. Without --photos, the page shows names only, no photographs.
    """
    from deepterms.web.access import Access

    access = Access.of(host, token=_read_token(token_file), names=names or (), read_only=read_only)
    index = open_index(url, name)
    try:
        extractor: RMACExtractor | None = rebuild_extractor(index, weights, whitening)
    except (MissingExtra, InvalidInput) as error:
        note(f"[yellow]search by photograph is not available:[/yellow] {escape(str(error))}")
        extractor = None
    if not photos:
        note("no photographs will be shown; pass their folder with --photos")
    if access_log:
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
        logging.getLogger("deepterms.web").setLevel(logging.INFO)
    run_server(
        index,
        extractor,
        photographs=photos or (),
        access=access,
        host=host,
        port=port,
        trusted_proxies=trusted_proxies or (),
    )


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
    trusted_proxies: Sequence[str] = (),
) -> None:
    """Serve an index until Ctrl-C.

    Args:
        index: the index to serve.
        extractor: extractor of its descriptors; None: no search by photograph.
        photographs: folders whose files may be shown.
        access: which requests are allowed.
        host: address to listen on.
        port: port to listen on; default: the first free one from 8000 upwards.
        query: id of the document that the page opens with.
        browser: open the page in the local browser, if there is one.
        trusted_proxies: addresses of reverse proxies whose X-Forwarded headers are believed.

    Raises:
        InvalidInput: the address cannot be listened on.
        MissingExtra: the extra ``serve`` is not installed.
    """
    from deepterms.web import Limits, create_app

    with require("uvicorn", "serve"):
        import uvicorn
    from deepterms.web.connections import make_config

    limits = Limits()
    app = create_app(index, describer=extractor, photographs=photographs, access=access, limits=limits)
    server = uvicorn.Server(
        make_config(app, limits, trusted_proxies=trusted_proxies, log_level="warning", timeout_graceful_shutdown=5)
    )
    # Ctrl-C must stop the server from the moment the address is printed. Uvicorn handles it once its event loop runs;
    # an interrupt while the loop is being created would leave it half initialised.
    with _open_socket(host, port) as listening, handled(signal.SIGINT, server.handle_exit):
        address = _format_address(host, listening)
        begin = "" if query is None else f"#id={quote(query, safe='')}"
        if access is not None and access.token is not None:
            note("the page asks for the token; API clients send it as Authorization: Bearer TOKEN")
        note(f"[bold]{escape(address)}/{escape(begin)}[/bold]   search page; press Ctrl-C to stop")
        note(f"{escape(address)}/openapi.json   HTTP API")
        if browser and _has_screen():
            webbrowser.open(f"{address}/{begin}")  # its requests wait until the server accepts them
        server.run(sockets=[listening])


def _has_screen() -> bool:
    """Whether a browser would open a window; one that runs in the terminal would hide the output."""
    return sys.platform in {"darwin", "win32"} or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _read_token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("DEEPTERMS_SERVE_TOKEN") or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the token from {file}: {error}") from error


def _open_socket(host: str, port: int | None) -> socket.socket:
    """Open a listening socket.

    Raises:
        InvalidInput: the address or the port cannot be used.
    """
    ports = [port] if port is not None else range(DEFAULT_PORT, DEFAULT_PORT + MAX_PORTS)
    last: OSError | None = None
    for candidate in ports:
        try:
            family = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, candidate), family=family, backlog=BACKLOG)
        except OSError as error:
            last = error
            if error.errno != errno.EADDRINUSE:
                break
    where = f"{host}:{port}" if port is not None else f"{host}, ports {ports[0]} to {ports[-1]}"
    raise InvalidInput(f"cannot listen on {where}: {last}; choose another address with --host or --port") from last


def _format_address(host: str, listening: socket.socket) -> str:
    """Return the URL that a browser on this machine opens."""
    port: Any = listening.getsockname()[1]
    name = "127.0.0.1" if host in {"0.0.0.0", "::"} else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
