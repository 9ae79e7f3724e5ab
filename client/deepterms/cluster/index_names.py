"""Index names: checks names of indices and aliases, and turns them into request paths."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from deepterms.errors import InvalidInput

__all__ = ["MAX_NAME_BYTES", "OPEN_AND_CLOSED", "build_index_path", "check_new_name"]

# The engines reject index names of more than 255 bytes, and a concrete index adds a prefix and a generation.
MAX_NAME_BYTES = 200

# Both engines forbid these in index names; % is added, since it could escape any of them in a URL.
# For requests with a pattern, which by default leaves out closed indices, as if they did not exist.
OPEN_AND_CLOSED: Mapping[str, str] = {"expand_wildcards": "open,closed"}

_FORBIDDEN = frozenset('\\/*?"<>| ,#:%')


def build_index_path(name: str, endpoint: str = "") -> str:
    """Build the path of a request to one index or alias, such as ``/holidays/_search``.

    Args:
        name: the index or alias.
        endpoint: appended to it, such as ``/_search``.

    Raises:
        InvalidInput: an engine would read the name as a pattern, a list, or something other than an index.
    """
    if not name or name[0] in "_-." or _FORBIDDEN & set(name) or not name.isprintable():
        raise InvalidInput(
            f"{name!r} cannot be the name of one index or alias; expected a name without patterns or lists"
        )
    return f"/{quote(name, safe='')}{endpoint}"


def check_new_name(name: str) -> None:
    """Check the name of an index that is to be created.

    Raises:
        InvalidInput: the engines would reject it.
    """
    if (
        not name
        or name != name.lower()
        or name[0] in "-_+."
        or _FORBIDDEN & set(name)
        or not name.isprintable()
        or len(name.encode()) > MAX_NAME_BYTES
    ):
        raise InvalidInput(
            f"{name!r} cannot name an index; expected lower case, none of {''.join(sorted(_FORBIDDEN))!r}, no "
            f"unprintable characters, no leading '-', '_', '+' or '.', and at most {MAX_NAME_BYTES} bytes"
        )
