"""Which ServingGroups or role replicas go: those that are surplus, and those that a roll-out may replace now.

One next step, never a schedule.
"""

from __future__ import annotations

from collections.abc import Sequence

from baton.planning.state import Unit


def surplus(candidates: Sequence[Unit], *, wanted: int) -> list[Unit]:
    """Return what to remove so that `wanted` candidates are left.

    What a partition protects goes last; then whatever does not run goes before what runs, of that first what leaves in
    part already, then the cheaper before the dearer, the higher ordinal before the lower.
    """
    count = len(candidates) - wanted
    if count <= 0:
        return []
    return sorted(
        candidates, key=lambda unit: (unit.protected, unit.running, unit.departure, unit.cost, -unit.ordinal)
    )[:count]


def to_replace(staying: Sequence[Unit], *, minimum: int) -> list[Unit]:
    """Return the outdated units to delete now, of those that nothing else deletes.

    What never started costs nothing and goes at once. Of the rest, `minimum` stay in place, where a replacement counts
    once it runs, and no running unit goes unless `minimum` others run. What does not run goes first, then the highest
    ordinal. Protected units keep their template.

    Units that are not ready are bounded too, because a cut between the control plane and the nodes makes all of them
    look so while they serve.
    """
    outdated = [unit for unit in staying if unit.outdated and not unit.protected]
    if not outdated:
        return []
    spare = sum(unit.started and (unit.outdated or unit.running) for unit in staying) - minimum
    spare_running = sum(unit.running for unit in staying) - minimum
    chosen: list[Unit] = []
    for unit in sorted(outdated, key=lambda unit: (unit.running, unit.departure, -unit.ordinal)):
        if not unit.started:
            chosen.append(unit)
        elif spare > 0 and (spare_running > 0 or not unit.running):
            chosen.append(unit)
            spare -= 1
            spare_running -= unit.running
    return chosen
