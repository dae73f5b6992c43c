from __future__ import annotations

from typing import Any

from baton.planning.model import PodView
from baton.planning.selection import surplus, to_replace
from baton.planning.state import RoleReplica


def unit(
    ordinal: int,
    *,
    running: bool = True,
    outdated: bool = False,
    protected: bool = False,
    **pod: Any,
) -> RoleReplica:
    state = {"phase": "Running", "deletion_cost": 0, **pod}
    view = PodView("default", f"demo-0-decode-{ordinal}-0", f"uid-{ordinal}", "uid-of-demo", {}, ready=running, **state)
    return RoleReplica(
        role="decode",
        ordinal=ordinal,
        members={0: view},
        template=None,
        protected=protected,
        outdated=outdated,
        complete=True,
        running=running,
    )


def removed(*units: RoleReplica, wanted: int) -> list[int]:
    return [unit.ordinal for unit in surplus(units, wanted=wanted)]


def replaced(*units: RoleReplica, minimum: int) -> list[int]:
    return [unit.ordinal for unit in to_replace(units, minimum=minimum)]


def test_nothing_is_surplus_up_to_the_number_wanted() -> None:
    assert removed(unit(0), unit(1), wanted=2) == []
    assert removed(unit(0), wanted=3) == []


def test_the_highest_ordinal_goes_first() -> None:
    assert removed(unit(0), unit(1), unit(2), unit(10), wanted=2) == [10, 2]


def test_the_cheaper_goes_before_the_higher() -> None:
    assert removed(unit(0, deletion_cost=-1), unit(1, deletion_cost=7), unit(2), wanted=1) == [0, 2]


def test_what_does_not_run_goes_before_the_cheaper() -> None:
    assert removed(unit(0, running=False, deletion_cost=9), unit(1), unit(2, deletion_cost=-9), wanted=2) == [0]


def test_of_what_does_not_run_goes_first_what_leaves_already() -> None:
    assert removed(unit(0, running=False, deleting=True), unit(1, running=False, deletion_cost=-9), wanted=1) == [0]


def test_what_is_protected_goes_last() -> None:
    assert removed(unit(0, protected=True, running=False), unit(1), unit(2), wanted=2) == [2]
    assert removed(unit(0, protected=True), unit(1, protected=True), unit(2), wanted=1) == [2, 1]


def test_nothing_is_replaced_that_is_of_the_present_template() -> None:
    assert replaced(unit(0), unit(1, running=False), unit(2, running=False, phase="Pending"), minimum=0) == []


def test_the_highest_outdated_ordinals_are_replaced_as_far_as_the_minimum_stays() -> None:
    outdated = [unit(ordinal, outdated=True) for ordinal in range(4)]
    assert replaced(*outdated, minimum=3) == [3]
    assert replaced(*outdated, minimum=2) == [3, 2]
    assert replaced(*outdated, minimum=4) == []
    assert replaced(*outdated, minimum=-1) == [3, 2, 1, 0]


def test_a_replacement_counts_once_it_runs() -> None:
    assert replaced(unit(0, outdated=True), unit(1, outdated=True), unit(2, running=False), minimum=2) == []
    assert replaced(unit(0, outdated=True), unit(1, outdated=True), unit(2), minimum=2) == [1]


def test_one_that_is_gone_counts_against_the_budget() -> None:
    assert replaced(unit(0, outdated=True), unit(1, outdated=True), minimum=2) == []


def test_what_does_not_run_is_replaced_first() -> None:
    assert replaced(
        unit(0, outdated=True, running=False), unit(1, outdated=True), unit(2, outdated=True), minimum=2
    ) == [0]


def test_what_only_looks_down_is_not_replaced_all_at_once() -> None:
    # After a network cut between the control plane and the nodes nothing is ready, though all of it may serve.
    assert replaced(*(unit(ordinal, outdated=True, running=False) for ordinal in range(4)), minimum=3) == [3]


def test_what_never_started_is_replaced_at_once() -> None:
    pending = [unit(ordinal, outdated=True, running=False, phase="Pending") for ordinal in range(3)]
    assert replaced(*pending, minimum=3) == [2, 1, 0]
    assert replaced(*pending, unit(3, outdated=True), minimum=3) == [2, 1, 0], "the running one is needed"


def test_no_running_one_goes_while_too_few_run() -> None:
    broken = unit(0, outdated=True, protected=True, running=False)
    assert replaced(broken, unit(1, outdated=True), unit(2, outdated=True), minimum=2) == []


def test_what_is_protected_is_not_replaced() -> None:
    never_started = unit(0, outdated=True, protected=True, running=False, phase="Pending")
    assert replaced(never_started, unit(1, outdated=True, protected=True), unit(2, outdated=True), minimum=0) == [2]
