"""Which ordinals new ServingGroups or role replicas get, and which a partition protects: the same rules for both."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice


def missing_ordinals(*, present: Collection[int], wanted: int) -> list[int]:
    """Return the ordinals to create, lowest first.

    What is still being deleted counts as present: nothing is created until its predecessor is gone.
    """
    room = max(0, wanted - len(present))
    return [ordinal for ordinal in range(wanted) if ordinal not in present][:room] if room else []


def further_ordinals(*, present: Collection[int], first: int, count: int) -> list[int]:
    """Return the `count` lowest free ordinals from `first` on."""
    free = (ordinal for ordinal in range(first, first + len(present) + count) if ordinal not in present)
    return list(islice(free, max(0, count)))


def protected_ordinals(*, present: Collection[int], wanted: int, partition: int) -> set[int]:
    """Return the `partition` lowest ordinals, those about to be created included."""
    if not partition:
        return set()
    return set(sorted({*present, *missing_ordinals(present=present, wanted=wanted)})[:partition])
