"""What the small paths tell: whether the router is ready, its metrics, what is in flight. Answers no request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client import generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from baton.router.directory import Directory


class Insight(Protocol):
    """Who knows, of one process or of all workers."""

    async def is_ready(self) -> bool:
        """Return whether new requests are wanted."""

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus's text format."""

    async def loads(self) -> Mapping[str, int]:
        """Return the requests in flight by endpoint name."""


class OwnInsight:
    """Tells of this process."""

    def __init__(self, directory: Directory, is_draining: Callable[[], bool]) -> None:
        self._directory = directory
        self._is_draining = is_draining

    async def is_ready(self) -> bool:
        """Return whether new requests are wanted."""
        return self._directory.ready and not self._is_draining()

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest()

    async def loads(self) -> Mapping[str, int]:
        """Return the requests in flight by endpoint name."""
        return self._directory.loads()
