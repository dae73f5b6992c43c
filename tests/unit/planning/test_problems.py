from __future__ import annotations

from typing import Any

from baton.planning.model import PodView
from baton.planning.problems import told


def pod(number: int, problem: str = "", **state: Any) -> PodView:
    return PodView("default", f"demo-{number}", f"uid-{number}", "uid-of-demo", {}, problem=problem, **state)


def test_nothing_is_told_of_pods_without_problems_and_of_those_that_leave() -> None:
    assert told([pod(0), pod(1, "Error", deleting=True)]) == ""


def test_pods_with_the_same_problem_are_told_together_the_most_frequent_first() -> None:
    pods = [pod(0, "ErrImagePull: no such"), *(pod(number, "Unschedulable: 0/3 nodes") for number in (1, 2, 3))]
    assert told(pods) == "demo-1 and 2 more: Unschedulable: 0/3 nodes; demo-0: ErrImagePull: no such"


def test_however_many_problems_there_are_a_few_are_told() -> None:
    pods = [pod(number, f"Error, exit code {number // 2}") for number in range(20)]
    assert told(pods) == (
        "demo-0 and 1 more: Error, exit code 0; demo-2 and 1 more: Error, exit code 1; "
        "demo-4 and 1 more: Error, exit code 2; demo-6 and 1 more: Error, exit code 3; "
        "and 12 pods with other problems"
    )
