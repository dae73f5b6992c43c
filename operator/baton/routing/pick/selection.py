"""Which endpoints a try gets, when some have failed, are ejected, or have as many requests as they may have.

Compares no loads itself: routing.pick.least_loaded does.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from baton.routing.pick.groups import EndpointGroups
from baton.routing.pick.least_loaded import choose_one, choose_pair
from baton.routing.types import Choice, Load

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Selection:
    """What to select from: `is_paired` asks for prefill and decode, else for an endpoint that does whole requests.

    `excluded` endpoints are never selected, `ejected` ones only when nothing else is left. Rolls are from 0 up to 1.
    """

    groups: EndpointGroups
    is_paired: bool
    loads: Mapping[str, Load]
    rolls: tuple[float, float, float]
    excluded: AbstractSet[str] = _NONE
    ejected: AbstractSet[str] = _NONE

    def best(self, *, limit: int | None) -> Choice | None:
        """Return the endpoints with the least to do, none of them with `limit` requests in flight; None if all have."""
        choice = self._open(self.excluded)
        if choice is None or limit is None or not self._is_full(choice, limit):
            return choice
        full = {name for name, load in self.loads.items() if load.requests >= limit}
        return self._open(self.excluded | full)

    def _open(self, excluded: AbstractSet[str]) -> Choice | None:
        choice = self._pick(excluded | self.ejected if self.ejected else excluded, avoided=_NONE)
        if choice is None and self.ejected:
            choice = self._pick(excluded, avoided=self.ejected)
        return choice

    def _pick(self, excluded: AbstractSet[str], *, avoided: AbstractSet[str]) -> Choice | None:
        if self.is_paired:
            return choose_pair(self.groups, loads=self.loads, excluded=excluded, avoided=avoided, rolls=self.rolls)
        return choose_one(self.groups, loads=self.loads, excluded=excluded, avoided=avoided, roll=self.rolls[0])

    def _is_full(self, choice: Choice, limit: int) -> bool:
        endpoints = (choice.decode, choice.prefill)
        loads = [self.loads.get(endpoint.name) for endpoint in endpoints if endpoint is not None]
        return any(load is not None and load.requests >= limit for load in loads)
