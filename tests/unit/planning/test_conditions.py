from __future__ import annotations

from datetime import UTC, datetime

from baton.api.meta import Condition
from baton.planning.conditions import update_conditions

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def condition(status: str = "True", **fields: object) -> Condition:
    return Condition.model_validate({"type": "Available", "status": status, **fields})


def updated(present: list[Condition], *wanted: Condition) -> list[Condition]:
    return update_conditions(present, wanted, now=NOW, generation=7)


def test_a_new_condition_begins_now_to_the_second() -> None:
    (result,) = updated([], condition(reason="R", message="m"))
    assert result.last_transition_time == NOW.replace(microsecond=0)
    assert (result.status, result.reason, result.message, result.observed_generation) == ("True", "R", "m", 7)


def test_the_transition_time_moves_when_the_status_flips() -> None:
    (result,) = updated([condition("False", last_transition_time=BEFORE)], condition("True"))
    assert result.last_transition_time == NOW.replace(microsecond=0)


def test_reason_and_message_change_without_moving_the_transition_time() -> None:
    present = condition(reason="Old", message="old", last_transition_time=BEFORE)
    (result,) = updated([present], condition(reason="New", message="new"))
    assert result.last_transition_time == BEFORE
    assert (result.reason, result.message) == ("New", "new")


def test_a_condition_without_a_transition_time_gets_one() -> None:
    (result,) = updated([condition()], condition())
    assert result.last_transition_time == NOW.replace(microsecond=0)


def test_conditions_of_others_stay_and_the_order_too() -> None:
    foreign = Condition(type="Foreign", status="Unknown", last_transition_time=BEFORE)
    result = updated([foreign, condition()], Condition(type="New", status="True"), condition())
    assert [entry.type for entry in result] == ["Foreign", "Available", "New"]
    assert result[0] == foreign


def test_a_type_that_is_there_twice_is_there_once_afterwards() -> None:
    assert len(updated([condition("False"), condition("True")], condition())) == 1
