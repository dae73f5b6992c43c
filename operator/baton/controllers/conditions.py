"""The conditions that controllers themselves set, and how they reach an object's status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from baton.api.meta import Condition
from baton.api.problems import Problem, Severity
from baton.kube.errors import NotFound
from baton.kube.types import key_of
from baton.planning.conditions import update_conditions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from baton.kube.client import Client
    from baton.kube.store import Store
    from baton.kube.types import JsonObject, Resource

_ACCEPTED = "Accepted"
_MESSAGE_LIMIT = 2048
"""Characters of a condition's message: enough for a list of faults, small in `kubectl describe`."""


def joined(problems: Iterable[object]) -> str:
    """Return the problems as one message."""
    text = "; ".join(str(problem) for problem in problems)
    return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…"


def accepted(problems: Sequence[Problem], *, instead: str = "") -> Condition:
    """Return the condition that says whether a spec can be used, with which doubts, and what is used instead."""
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    if errors:
        message = joined([*([instead] if instead else []), *errors])
        return Condition(type=_ACCEPTED, status="False", reason="Invalid", message=message)
    if problems:
        message = joined(["The spec can be used", *problems])
        return Condition(type=_ACCEPTED, status="True", reason="AcceptedWithWarnings", message=message)
    return Condition(type=_ACCEPTED, status="True", reason="Accepted", message="The spec is valid")


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


async def write_status(
    client: Client, resource: Resource, store: Store[Any], raw: JsonObject, status: JsonObject
) -> None:
    """Write these fields of an object's status, if they say anything new, and show the answer to the store."""
    if status.items() <= (raw.get("status") or {}).items():
        return
    try:
        written = await client.patch_status(resource, *key_of(raw), status)
    except NotFound:
        return  # its end is on the way to us
    store.offer("MODIFIED", written)
