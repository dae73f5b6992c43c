"""Cuts a stream of bytes into lines of any length. Reads nothing and decodes nothing."""

from __future__ import annotations


class LineSplitter:
    """Feed it chunks, cut anywhere; it returns the lines they complete, without their ends and without empty ones."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # the beginning of a line; joined once, for its end may be megabytes away

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes."""
        first, *more = chunk.split(b"\n")
        self._parts.append(first)
        if not more:
            return []
        lines = [b"".join(self._parts), *more[:-1]]
        self._parts = [more[-1]]
        return [line for line in lines if line]
