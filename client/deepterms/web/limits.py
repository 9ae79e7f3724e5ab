"""Limits: the most that one request, one client and the whole server may use."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Upper bounds; the status of the response to a request that exceeds one is in parentheses.

    Attributes:
        image_bytes: size of an uploaded image (413).
        json_bytes: size of the body of a request that adds or deletes documents (413).
        query_bytes: size of any other body (413).
        held_bytes: size of all bodies that the server holds at one moment (503).
        line_bytes: size of one document in a stream (413; once the response has begun, its last line has the error).
        pixels: pixels that an image header may declare (413).
        decoding_bytes: memory for decoding one image (422).
        decoding_seconds: time for decoding one image, after which the process is killed (422).
        seconds: time to respond to a request, queueing included (504), and time for its body, or each line
            of a stream, to arrive (408).
        header_seconds: time for the headers of a request to arrive, after which the connection is closed.
        connections: open connections; the one that has waited longest for a request gives way to a new one.
        threads: concurrent calls to the cluster for searches; each other kind of call gets a quarter as many.
        waiting: searches that may queue for one of these threads (503).
        per_client: concurrent requests from one address (429).
        hits: the largest k (422).
        candidates: the largest number of candidates to re-rank (422).
    """

    image_bytes: int = 32 << 20
    json_bytes: int = 8 << 20
    query_bytes: int = 1 << 20
    held_bytes: int = 256 << 20
    line_bytes: int = 1 << 20
    pixels: int = 64_000_000
    decoding_bytes: int = 1 << 30
    decoding_seconds: float = 10.0
    seconds: float = 15.0
    header_seconds: float = 10.0
    connections: int = 512
    threads: int = 8
    waiting: int = 64
    per_client: int = 64
    hits: int = 1_000
    candidates: int = 10_000
