"""Names of ServingGroups, role replicas and pods, and how to read them back.

A pod is found by its name, not by labels that a user's template may override.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_ORDINAL = r"(0|[1-9][0-9]*)"
_SLOT = re.compile(rf"{_ORDINAL}-(.+)-{_ORDINAL}-{_ORDINAL}")
_NAMES_KEPT = 1 << 16
"""Parsed names kept, some 20 MB at most: every plan reads the names of all pods."""


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """The place of a pod: group ordinal, role name, role replica ordinal, and 0 for the entry or 1… for workers."""

    group: int
    role: str
    replica: int
    worker: int


def group_name(serving: str, group: int) -> str:
    """Return the name of a ServingGroup."""
    return f"{serving}-{group}"


def role_id(role: str, replica: int) -> str:
    """Return the name of a role replica inside its ServingGroup."""
    return f"{role}-{replica}"


def pod_name(serving: str, slot: Slot) -> str:
    """Return the name of a pod."""
    return f"{serving}-{slot.group}-{slot.role}-{slot.replica}-{slot.worker}"


def entry_name(serving: str, group: int, role: str, replica: int) -> str:
    """Return the name of a role replica's entry pod, which is also that of its headless Service."""
    return f"{serving}-{group}-{role}-{replica}-0"


@lru_cache(maxsize=_NAMES_KEPT)
def slot_of(serving: str, name: str) -> Slot | None:
    """Return the slot of a pod by its name, or None for a name we did not make."""
    if not name.startswith(f"{serving}-"):
        return None
    match = _SLOT.fullmatch(name, len(serving) + 1)
    if match is None:
        return None
    group, role, replica, worker = match.groups()
    return Slot(int(group), role, int(replica), int(worker))
