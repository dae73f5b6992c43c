"""Which ordinals to add and which to remove. The same rule serves ServingGroups and role replicas."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from baton.planning.state import Unit


def missing_ordinals(*, present: Collection[int], wanted: int) -> list[int]:
    """Return the ordinals to create, lowest first.

    What is still being deleted counts as present: nothing is created until its predecessor is gone.
    """
    room = max(0, wanted - len(present))
    return [ordinal for ordinal in range(wanted) if ordinal not in present][:room] if room else []


def surplus(candidates: Sequence[Unit], *, wanted: int, partition: int = 0) -> list[Unit]:
    """Return what to remove of the candidates, which come lowest ordinal first.

    The first `partition` positions are protected and go last; then whatever does not run goes before what runs, of that
    first what leaves in part, then the cheaper before the dearer, the higher ordinal before the lower.
    """
    count = len(candidates) - wanted
    if count <= 0:
        return []
    queue = sorted(
        enumerate(candidates),
        key=lambda entry: (
            entry[0] < partition,
            entry[1].running,
            not entry[1].leaving,
            entry[1].cost,
            -entry[1].ordinal,
        ),
    )
    return [candidate for _, candidate in queue[:count]]
