"""The conditions that controllers themselves set on objects they cannot act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from baton.api.meta import Condition
from baton.planning.conditions import update_conditions

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from baton.kube.types import JsonObject

_MESSAGE_LIMIT = 2048
"""Characters of a condition's message: enough for a list of faults, small in `kubectl describe`."""


def joined(problems: Iterable[object]) -> str:
    """Return the problems as one message."""
    text = "; ".join(str(problem) for problem in problems)
    return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…"


def with_conditions(raw: JsonObject, wanted: Iterable[Condition], *, now: datetime) -> list[JsonObject]:
    """Return an object's conditions with the wanted ones put in, also where its spec cannot be read."""
    present = []
    for entry in (raw.get("status") or {}).get("conditions") or []:
        try:
            present.append(Condition.model_validate(entry))
        except ValidationError:
            continue
    generation = raw["metadata"].get("generation", 0)
    updated = update_conditions(present, wanted, now=now, generation=generation)
    return [condition.document() for condition in updated]
