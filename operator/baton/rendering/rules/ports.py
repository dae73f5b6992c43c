"""Rules on the ports of a pod."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Final

from baton.api.problems import Severity
from baton.rendering.rules.rule import Finding, Group, Rule, found

_FIELDS: Final = {"api": "ports.api", "rpc": "ports.dataParallelRpc", "master": "ports.master", "kv": "kvTransfer.port"}
_LAST_PORT: Final = 65535
_EPHEMERAL: Final = (32768, 60999)
"""Linux' default of net.ipv4.ip_local_port_range."""


def _beyond_last(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        for use, (first, count) in role.plan.ports.items():
            if first + count - 1 > _LAST_PORT:
                yield found(role.path(_FIELDS[use]), use=use, first=first, last=first + count - 1, count=count)


def _overlap(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        for (one, (first, count)), (other, (start, length)) in combinations(role.plan.ports.items(), 2):
            if first < start + length and start < first + count:
                yield found(
                    role.path(_FIELDS[other]),
                    one=one,
                    one_range=f"{first}-{first + count - 1}",
                    other=other,
                    other_range=f"{start}-{start + length - 1}",
                )


def _reserved(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        if role.plan.kv is None:
            continue
        for use, (first, count) in role.plan.ports.items():
            for low, high in role.plan.facts.reserved_ports:
                if first <= high and low < first + count:
                    yield found(role.path(_FIELDS[use]), use=use, first=first, low=low, high=high)


def _ephemeral(group: Group) -> Iterator[Finding]:
    low, high = _EPHEMERAL
    for role in group.typed:
        for use, (first, count) in role.plan.ports.items():
            if first <= high and low < first + count <= _LAST_PORT:
                yield found(role.path(_FIELDS[use]), use=use, first=first, low=low, high=high)


RULES: Final = (
    Rule(
        "port-range",
        _beyond_last,
        "the {use} ports {first}-{last} ({count} of them) go beyond 65535",
        "choose a lower first port",
    ),
    Rule(
        "port-overlap",
        _overlap,
        "the {other} ports {other_range} overlap the {one} ports {one_range} of the same pod",
        "move one of them",
    ),
    Rule(
        "reserved-ports",
        _reserved,
        "the {use} ports from {first} on reach into {low}-{high}, where Mooncake opens ports at random",
        "choose other ports",
        Severity.WARNING,
    ),
    Rule(
        "ephemeral-ports",
        _ephemeral,
        "the {use} ports from {first} on reach into {low}-{high}, which outgoing connections may take at any time",
        "choose ports below {low}",
        Severity.WARNING,
    ),
)
