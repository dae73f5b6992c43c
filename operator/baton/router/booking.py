"""Counts one try of a request as in flight at its endpoints, and takes that back exactly once. Chooses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from baton.router.directory import Directory
    from baton.routing.types import Choice, Endpoint


class Booking:
    """The load of one try.

    Both endpoints are counted from the choice on, so that the next choice sees them. Prefill is counted until decode's
    first byte, because until then decode may still have to pull the KV that it holds.
    """

    __slots__ = ("_body_bytes", "_decode", "_directory", "_prefill")

    def __init__(self, directory: Directory, choice: Choice, *, body_bytes: int) -> None:
        self._directory = directory
        self._body_bytes = body_bytes
        self._prefill = choice.prefill
        self._decode: Endpoint | None = choice.decode
        if choice.prefill is not None:
            directory.started(choice.prefill, body_bytes)
        directory.started(choice.decode, body_bytes)

    def release_prefill(self) -> None:
        """Take prefill back, if it has not been yet."""
        endpoint, self._prefill = self._prefill, None
        if endpoint is not None:
            self._directory.finished(endpoint, self._body_bytes)

    def release(self) -> None:
        """Take back what is left."""
        self.release_prefill()
        endpoint, self._decode = self._decode, None
        if endpoint is not None:
            self._directory.finished(endpoint, self._body_bytes)
