from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from baton.api.meta import Condition
from baton.api.problems import Problem, Severity
from baton.controllers.conditions import accepted, joined, with_conditions

if TYPE_CHECKING:
    from baton.kube.types import JsonObject

BEFORE = "2026-01-01T00:00:00Z"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def found(*conditions: JsonObject) -> JsonObject:
    return {"metadata": {"name": "x", "generation": 7}, "status": {"conditions": list(conditions)}}


def condition(kind: str, status: str) -> JsonObject:
    return {"type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": BEFORE}


def test_problems_become_one_message() -> None:
    assert joined([Problem("spec.a", "is odd; mend it"), "b"]) == "spec.a: is odd; mend it; b"


def test_a_message_stays_small() -> None:
    message = joined("x" * 100 for _ in range(100))
    assert len(message) == 2048
    assert message.endswith("x…")


def test_a_spec_without_problems_is_accepted() -> None:
    assert (accepted([]).status, accepted([]).reason) == ("True", "Accepted")


def test_warnings_are_told_and_do_no_harm() -> None:
    told = accepted([Problem("spec.a", "is doubtful", Severity.WARNING)])
    assert (told.status, told.reason) == ("True", "AcceptedWithWarnings")
    assert told.message.endswith("; spec.a: is doubtful")


def test_an_error_refuses_and_drowns_no_warning_out() -> None:
    told = accepted([Problem("spec.a", "is doubtful", Severity.WARNING), Problem("spec.b", "is wrong")])
    assert (told.status, told.reason, told.message) == ("False", "Invalid", "spec.b: is wrong")


def test_the_time_of_a_condition_moves_when_its_status_does() -> None:
    raw = found(condition("Accepted", "True"), condition("Programmed", "True"))
    wanted = [
        Condition(type="Accepted", status="True", reason="New", message="other words"),
        Condition(type="Programmed", status="False", reason="New", message="no"),
    ]
    kept, flipped = with_conditions(raw, wanted, now=NOW)
    assert (kept["reason"], kept["lastTransitionTime"], kept["observedGeneration"]) == ("New", BEFORE, 7)
    assert (flipped["status"], flipped["lastTransitionTime"]) == ("False", "2026-01-02T00:00:00Z")


def test_the_conditions_of_others_stay() -> None:
    kept, added = with_conditions(found(condition("Foreign", "True")), [accepted([])], now=NOW)
    assert kept == condition("Foreign", "True")
    assert added["type"] == "Accepted"


def test_conditions_that_make_no_sense_are_dropped() -> None:
    raw = found({"type": "Odd", "status": "Perhaps"}, {})
    assert [entry["type"] for entry in with_conditions(raw, [accepted([])], now=NOW)] == ["Accepted"]


def test_an_object_without_status_gets_its_first_condition() -> None:
    (only,) = with_conditions({"metadata": {"name": "x"}}, [accepted([])], now=NOW)
    assert (only["observedGeneration"], only["lastTransitionTime"]) == (0, "2026-01-02T00:00:00Z")
