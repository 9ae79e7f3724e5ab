"""Limits: what one request, one client and the whole server may take."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What is taken at most; beyond it the answer is the status in brackets.

    Attributes:
        image_bytes: of an uploaded picture (413).
        json_bytes: of any other body (413).
        line_bytes: of one document in a stream (413, or a line of the answer once it has begun).
        pixels: that a picture's header may announce (413).
        decoding_bytes: of memory while one picture is decoded (422).
        decoding_seconds: for one picture; its process is ended then (422).
        seconds: for the answer to a request, waiting included (504), and for its body to arrive (408).
        threads: calls of the cluster under way at once, for searches; a quarter of it for everything else.
        waiting: further searches that wait for one of them (503).
        per_client: requests of one address under way at once (429).
        hits: the largest k (422).
        candidates: the largest number to re-rank (422).
    """

    image_bytes: int = 32 << 20
    json_bytes: int = 8 << 20
    line_bytes: int = 1 << 20
    pixels: int = 64_000_000
    decoding_bytes: int = 1 << 30
    decoding_seconds: float = 10.0
    seconds: float = 15.0
    threads: int = 8
    waiting: int = 64
    per_client: int = 64
    hits: int = 1_000
    candidates: int = 10_000
