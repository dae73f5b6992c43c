from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from baton.planning.model import PodView
from baton.planning.recovery import Health, examine, has_failed
from baton.planning.state import RoleReplica

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GRACE = timedelta(seconds=30)
READY = PodView("default", "demo-0-decode-0-0", "uid", "uid-of-demo", {}, phase="Running", ready=True)
STARTING = replace(READY, ready=False)
FAILED = replace(STARTING, phase="Failed")


def examined(*pods: PodView, grace: timedelta = timedelta(), **state: Any) -> Health:
    facts = {"outdated": False, "complete": True, "protected": False, "running": False, **state}
    replica = RoleReplica(role="decode", ordinal=0, members=dict(enumerate(pods)), template=None, **facts)
    return examine(replica, grace=grace, now=NOW)


@pytest.mark.parametrize(
    "pod",
    [
        FAILED,
        replace(STARTING, phase="Succeeded"),
        replace(STARTING, restarted=True),
        replace(STARTING, restarted=True, phase="Pending"),
    ],
)
def test_a_pod_that_ended_or_is_not_ready_since_a_restart_has_failed(pod: PodView) -> None:
    assert has_failed(pod)
    assert examined(pod).failed == (pod,)


@pytest.mark.parametrize(
    "pod",
    [
        READY,
        replace(READY, restarted=True),
        STARTING,
        replace(STARTING, phase="Pending"),
        replace(STARTING, restarted=True, phase="Unknown"),
        replace(FAILED, deleting=True),
    ],
)
def test_a_pod_that_is_ready_again_or_starts_or_leaves_has_not_failed(pod: PodView) -> None:
    assert not has_failed(pod)
    assert examined(pod).failed == ()


def test_a_failed_pod_may_recover_by_itself_for_the_grace_period() -> None:
    fresh = replace(FAILED, unready_since=NOW - timedelta(seconds=12))
    assert examined(fresh, grace=GRACE) == Health(wait=18.0)
    over = replace(FAILED, unready_since=NOW - GRACE)
    assert examined(over, grace=GRACE) == Health(failed=(over,))
    assert examined(fresh, over, grace=GRACE) == Health(failed=(over,), wait=18.0)


def test_the_shortest_grace_left_counts() -> None:
    pods = [replace(FAILED, unready_since=NOW - timedelta(seconds=age)) for age in (5, 25, 10)]
    assert examined(*pods, grace=GRACE).wait == 5.0


def test_a_clock_that_went_back_does_not_prolong_the_grace_period() -> None:
    assert examined(replace(FAILED, unready_since=NOW + timedelta(days=1)), grace=GRACE).wait == 30.0


def test_there_is_no_grace_when_nobody_knows_since_when_a_pod_failed() -> None:
    assert examined(FAILED, grace=GRACE) == Health(failed=(FAILED,))


def test_a_pod_is_lost_when_it_leaves() -> None:
    assert examined(READY, replace(READY, deleting=True)).lost


def test_a_pod_is_lost_when_it_is_missing_beside_a_ready_one() -> None:
    assert examined(READY, complete=False).lost


def test_a_replica_that_was_never_complete_has_lost_nothing() -> None:
    assert not examined(STARTING, complete=False).lost
