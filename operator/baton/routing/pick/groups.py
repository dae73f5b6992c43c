"""The endpoints of a backend, arranged for picking: made when they change, so that a request finds them sorted.

Knows no loads and picks nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Self

from baton.api.endpoints import Phase
from baton.routing.types import Endpoint


@dataclass(frozen=True, slots=True)
class PairGroup:
    """Prefill and decode endpoints of which every one may pair with every other; neither side is empty."""

    prefills: tuple[Endpoint, ...]
    decodes: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class GroupMembers:
    """What the endpoints of one group can do: whole requests, or their parts in pairs."""

    aggregated: tuple[Endpoint, ...] = ()
    pairs: tuple[PairGroup, ...] = ()

    @classmethod
    def of(cls, endpoints: Iterable[Endpoint]) -> Self:
        """Arrange endpoints that have equal `group`s. A decode endpoint without any prefill is left out."""
        by_phase: dict[Phase, list[Endpoint]] = {phase: [] for phase in Phase}
        for endpoint in endpoints:
            by_phase[endpoint.phase].append(endpoint)
        prefills, decodes = by_phase[Phase.PREFILL], by_phase[Phase.DECODE]
        pairs = []
        for transfer in dict.fromkeys(decode.kv_transfer for decode in decodes):
            fitting = tuple(prefill for prefill in prefills if are_compatible(prefill.kv_transfer, transfer))
            if fitting:
                pairs.append(PairGroup(fitting, tuple(d for d in decodes if d.kv_transfer == transfer)))
        return cls(tuple(by_phase[Phase.AGGREGATED]), tuple(pairs))


@dataclass(frozen=True, slots=True)
class EndpointGroups:
    """All endpoints of a backend that can take requests now."""

    aggregated: tuple[Endpoint, ...] = ()
    pairs: tuple[PairGroup, ...] = ()
    decodes_until: tuple[int, ...] = ()
    """Decode endpoints in `pairs`, added up from the first group to each."""

    @classmethod
    def of(cls, groups: Iterable[GroupMembers]) -> Self:
        """Put together what the groups hold."""
        members = tuple(groups)
        pairs = tuple(chain.from_iterable(group.pairs for group in members))
        return cls(
            aggregated=tuple(chain.from_iterable(group.aggregated for group in members)),
            pairs=pairs,
            decodes_until=tuple(accumulate(len(pair.decodes) for pair in pairs)),
        )

    @classmethod
    def of_endpoints(cls, endpoints: Iterable[Endpoint]) -> Self:
        """Arrange endpoints from scratch."""
        groups: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            groups.setdefault(endpoint.group, []).append(endpoint)
        return cls.of(map(GroupMembers.of, groups.values()))


def are_compatible(one: str, other: str) -> bool:
    """Tell whether KV can go between two endpoints with these `kv_transfer` hashes: equal ones, or one unknown."""
    return one == other or not one or not other
