"""What the data path asks: which backend takes a request, and which endpoints serve it now.

The interface between the data path and everything that keeps configuration and endpoints up to date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from baton.routing.types import Choice, Endpoint, Match, RequestFacts


class Directory(Protocol):
    """A live view of routes and endpoints. Every method is synchronous and cheap: it runs once a request."""

    @property
    def ready(self) -> bool:
        """Whether configuration and endpoints have been read at least once."""

    def models(self) -> list[str]:
        """Return the model names that requests may use, sorted."""

    def loads(self) -> Mapping[str, int]:
        """Return the requests in flight by endpoint name, of endpoints that are gone too."""

    def match(self, facts: RequestFacts) -> Match | None:
        """Return the backend for a request, or None when no route takes it."""

    def choose(self, match: Match, *, excluded: AbstractSet[str] = frozenset()) -> Choice | None:
        """Return the endpoints for one try, leaving out the excluded endpoint names; None when none can take it."""

    def is_full(self, match: Match) -> bool:
        """Tell whether endpoints are ready, but all of them have as many requests in flight as they may have."""

    def failed(self, endpoint: Endpoint) -> None:
        """Count a call of an endpoint that brought no usable answer, through no fault of the request."""

    def answered(self, endpoint: Endpoint) -> None:
        """Count a call of an endpoint that ended well, with a refusal of the request (4xx) too."""

    def started(self, endpoint: Endpoint, body_bytes: int) -> None:
        """Count a request as in flight at an endpoint."""

    def finished(self, endpoint: Endpoint, body_bytes: int) -> None:
        """Take back what `started` counted, with the same arguments, exactly once."""
