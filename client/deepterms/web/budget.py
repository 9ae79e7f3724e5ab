"""Budgets: the bytes of request bodies that a server holds, and the wrong tokens that an address may try."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict

from deepterms.web.errors import HttpError

__all__ = ["ByteBudget", "TokenBudget"]

WRONG_TOKENS = 10
WRONG_TOKEN_SECONDS = 3.0  # until an address may try another one
MAX_ADDRESSES = 10_000
IPV6_NETWORK = 64  # bits; one customer has at least that many addresses


class ByteBudget:
    """The bytes of bodies that have arrived and whose requests are not complete. Used in the event loop only.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    def take(self, count: int) -> None:
        """Hold more bytes.

        Raises:
            HttpError: 503, they would be too many.
        """
        if self.held + count > self._most:
            raise HttpError(503, "the server is receiving too many bytes at once; retry later")
        self.held += count

    def give_back(self, count: int) -> None:
        """Hold them no longer."""
        self.held -= count


class TokenBudget:
    """Wrong tokens by address: ten at once, then one every three seconds. Used in the event loop only.

    While an address has none left, its tokens are not looked at, so a right one is rejected too; sessions go on.
    """

    def __init__(self) -> None:
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()  # network → wrong tokens, and when

    def check(self, address: str) -> None:
        """Raise if an address has tried too many.

        Raises:
            HttpError: 429.
        """
        if (spent := self._count(_network_of(address))) > WRONG_TOKENS - 1:
            seconds = int((spent - WRONG_TOKENS + 1) * WRONG_TOKEN_SECONDS) + 1
            raise HttpError(
                429, "too many wrong tokens from this address; retry later", headers={"Retry-After": str(seconds)}
            )

    def spend(self, address: str) -> None:
        """Count a wrong token."""
        network = _network_of(address)
        self._spent[network] = (min(self._count(network) + 1, 2 * WRONG_TOKENS), time.monotonic())
        self._spent.move_to_end(network)
        while len(self._spent) > MAX_ADDRESSES:
            self._spent.popitem(last=False)

    def _count(self, network: str) -> float:
        spent, since = self._spent.get(network, (0.0, 0.0))
        return max(0.0, spent - (time.monotonic() - since) / WRONG_TOKEN_SECONDS)


def _network_of(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, IPV6_NETWORK), strict=False)) if parsed.version == 6 else address
