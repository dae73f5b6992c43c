"""How conditions change: the transition time moves only when the status does, and foreign conditions stay."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from baton.api.meta import Condition


def update_conditions(
    present: Iterable[Condition], wanted: Iterable[Condition], *, now: datetime, generation: int
) -> list[Condition]:
    """Return the present conditions with the wanted ones put in their places."""
    result = {condition.type: condition for condition in present}
    for condition in wanted:
        before = result.get(condition.type)
        since = before.last_transition_time if before and before.status == condition.status else None
        result[condition.type] = condition.model_copy(
            update={"observed_generation": generation, "last_transition_time": since or now.replace(microsecond=0)}
        )
    return list(result.values())
