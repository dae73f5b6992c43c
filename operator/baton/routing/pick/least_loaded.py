"""Picks endpoints by what is in flight at them. Draws no random numbers: rolls from 0 up to 1 are handed in.

The work for a request is bounded however many endpoints there are: of a long list a random stretch is looked at. That
also keeps several routers, which don't know of each other's requests, from all running to the one least loaded.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, islice

from baton.routing.pick.groups import EndpointGroups, PairGroup
from baton.routing.types import Choice, Endpoint, Load

MOST_ENDPOINTS = 64
"""Endpoints of one side that are compared for a request; all of them are when there are no more."""
MOST_GROUPS = 4
"""Groups whose best pairs are compared for a request."""

_IDLE = Load()


def choose_one(
    groups: EndpointGroups,
    *,
    loads: Mapping[str, Load],
    excluded: AbstractSet[str],
    avoided: AbstractSet[str] = frozenset(),
    roll: float,
) -> Choice | None:
    """Return the least loaded aggregated endpoint that is not excluded, or None; an avoided one only if need be."""
    found = least_loaded(groups.aggregated, loads=loads, excluded=excluded, avoided=avoided, roll=roll)
    if found is None:
        return None
    return Choice(found, reason=f"least loaded: {loads.get(found.name, _IDLE).requests} in flight")


def choose_pair(
    groups: EndpointGroups,
    *,
    loads: Mapping[str, Load],
    excluded: AbstractSet[str],
    avoided: AbstractSet[str] = frozenset(),
    rolls: tuple[float, float, float],
) -> Choice | None:
    """Return a prefill and a decode endpoint that fit each other and are not excluded, or None.

    An avoided one is chosen only where its side of the group has no other.

    Inside a group both sides are the least loaded ones. Between groups the lowest sum of both sides' requests wins,
    each relative to the largest among the groups compared: prefill has few requests in flight and decode many, and
    neither may hide the other. If all are equally loaded, all decode endpoints are equally likely. The rolls are for
    the group, the prefill and the decode endpoint.
    """
    pairs = _best_pairs(groups, loads=loads, excluded=excluded, avoided=avoided, rolls=rolls)
    if not pairs:
        return None
    prefill, decode = pairs[0] if len(pairs) == 1 else _least_loaded_pair(pairs, loads)
    return Choice(
        decode,
        prefill,
        reason=f"least loaded of {len(pairs)} groups: {loads.get(prefill.name, _IDLE).requests} prefill, "
        f"{loads.get(decode.name, _IDLE).requests} decode in flight",
    )


def least_loaded(
    endpoints: Sequence[Endpoint],
    *,
    loads: Mapping[str, Load],
    excluded: AbstractSet[str],
    avoided: AbstractSet[str] = frozenset(),
    roll: float,
) -> Endpoint | None:
    """Return the endpoint with the fewest requests in flight, then the fewest bytes, or None if all are excluded.

    The avoided ones count only if there are no others.

    `roll` selects among equal ones, and where to begin among more than MOST_ENDPOINTS.
    """
    if excluded:
        endpoints = [endpoint for endpoint in endpoints if endpoint.name not in excluded]
    if avoided:
        endpoints = [endpoint for endpoint in endpoints if endpoint.name not in avoided] or endpoints
    if len(endpoints) > MOST_ENDPOINTS:
        position = roll * len(endpoints)
        start = int(position)
        roll = position - start  # as random as before, and independent of the start
        overlap = max(0, start + MOST_ENDPOINTS - len(endpoints))
        endpoints = (*endpoints[start : start + MOST_ENDPOINTS], *endpoints[:overlap])
    equals: list[Endpoint] = []
    fewest, smallest = math.inf, math.inf
    for endpoint in endpoints:
        load = loads.get(endpoint.name, _IDLE)
        requests, size = load.requests, load.body_bytes
        if requests > fewest:
            continue
        if requests < fewest or size < smallest:
            equals = [endpoint]
            fewest, smallest = requests, size
        elif size == smallest:
            equals.append(endpoint)
    return equals[int(roll * len(equals))] if equals else None


def _best_pairs(
    groups: EndpointGroups,
    *,
    loads: Mapping[str, Load],
    excluded: AbstractSet[str],
    avoided: AbstractSet[str],
    rolls: tuple[float, float, float],
) -> list[tuple[Endpoint, Endpoint]]:
    """Return the least loaded prefill and decode endpoint of some groups, a random group first."""
    found: list[tuple[Endpoint, Endpoint]] = []
    for pair in _from_random(groups, rolls[0]):
        prefill = least_loaded(pair.prefills, loads=loads, excluded=excluded, avoided=avoided, roll=rolls[1])
        decode = least_loaded(pair.decodes, loads=loads, excluded=excluded, avoided=avoided, roll=rolls[2])
        if prefill is not None and decode is not None:
            found.append((prefill, decode))
            if len(found) == MOST_GROUPS:
                break
    return found


def _from_random(groups: EndpointGroups, roll: float) -> Iterable[PairGroup]:
    """Return all pair groups in their order, beginning at one that is as likely as it has decode endpoints."""
    pairs = groups.pairs
    if len(pairs) < 2:
        return pairs
    first = bisect_right(groups.decodes_until, int(roll * groups.decodes_until[-1]))
    return chain(islice(pairs, first, None), islice(pairs, first))


def _least_loaded_pair(
    pairs: Sequence[tuple[Endpoint, Endpoint]], loads: Mapping[str, Load]
) -> tuple[Endpoint, Endpoint]:
    weighed = [(loads.get(prefill.name, _IDLE), loads.get(decode.name, _IDLE)) for prefill, decode in pairs]
    most_prefill = max(prefill.requests for prefill, _ in weighed) or 1
    most_decode = max(decode.requests for _, decode in weighed) or 1
    scores = [(p.requests / most_prefill + d.requests / most_decode, p.body_bytes + d.body_bytes) for p, d in weighed]
    return pairs[scores.index(min(scores))]
