from __future__ import annotations

import pytest

from baton.planning.forecast import foresee
from baton.planning.model import ChildKind, ConfigFile
from builders import ServingBuilder, serving
from planned_cluster import Cluster, running

PAIR = serving().role("prefill").role("decode", replicas=2, workers=1)

REVISION = ChildKind.REVISION


def _foresee(cluster: Cluster) -> tuple[list[str], list[str], list[str]]:
    """Return the pods that restart, stop and start."""
    forecast = foresee(cluster.builder.desired(*cluster.config_files), cluster.observed())
    assert forecast.is_complete
    assert len(forecast.stays) == len(forecast.before) - len(forecast.restarts) - len(forecast.stops)
    return list(forecast.restarts), list(forecast.stops), forecast.starts


def test_at_rest_nothing_is_foreseen() -> None:
    cluster = running(PAIR)
    forecast = foresee(PAIR.desired(), cluster.observed())
    assert (forecast.steps, forecast.most_at_once) == ((), 0)
    assert list(forecast.before) == list(forecast.after) == list(cluster.pods)


def test_what_is_new_starts() -> None:
    assert _foresee(Cluster(PAIR)) == ([], [], list(running(PAIR).pods))


@pytest.mark.parametrize(
    "change",
    [
        PAIR.replicas(3).role("prefill", image="engine:2"),
        PAIR.replicas(3).rollout(maxUnavailable=2, partition=1).role("prefill", image="engine:2"),
        PAIR.replicas(3).rollout_by_role().role("prefill", image="engine:2"),
        PAIR.replicas(1),
        PAIR.replicas(5).role("decode", workers=2),
        PAIR.replicas(3).without_role("decode"),
    ],
    ids=["groups", "partition", "roles", "fewer", "more", "without a role"],
)
def test_what_is_foreseen_is_what_happens(change: ServingBuilder) -> None:
    cluster = running(PAIR.replicas(3))
    before = {name: pod.uid for name, pod in cluster.pods.items()}
    cluster.edit(change)

    restarts, stops, starts = _foresee(cluster)
    cluster.converge()

    after = {name: pod.uid for name, pod in cluster.pods.items()}
    assert sorted(restarts) == sorted(name for name in before if name in after and before[name] != after[name])
    assert sorted(stops) == sorted(before.keys() - after.keys())
    assert sorted(starts) == sorted(after.keys() - before.keys())


def test_a_roll_out_takes_one_group_after_the_other() -> None:
    cluster = running(PAIR.replicas(3))
    cluster.edit(PAIR.replicas(3).role("prefill", image="engine:2"))
    forecast = foresee(cluster.builder.desired(), cluster.observed())
    assert (len(forecast.restarts), forecast.most_at_once) == (15, 5)
    assert forecast.restarts["demo-2-prefill-0-0"].reason == "demo-2 has an outdated template"


def test_what_is_under_way_and_what_failed_is_seen_to_its_end() -> None:
    cluster = running(PAIR.grace(60))
    cluster.change("demo-0-decode-0-0", deleting=True)
    cluster.fail("demo-0-prefill-0-0")
    assert _foresee(cluster)[0] != []
    assert "demo-0-decode-0-0" in _foresee(cluster)[2], "it is going, and comes back"


def test_pods_of_others_are_not_counted() -> None:
    cluster = running(PAIR)
    cluster.change("demo-0-prefill-0-0", owner_uid="another")
    assert "demo-0-prefill-0-0" not in foresee(PAIR.desired(), cluster.observed()).before


def test_launches_come_and_go_with_their_pods() -> None:
    template = {
        "metadata": {},
        "spec": {"containers": [], "volumes": [{"name": "l", "configMap": {"name": "old"}}, {}]},
    }
    cluster = running(serving().role("decode", entryTemplate=template), ConfigFile("old", "decode", {}))
    cluster.edit(serving().role("decode"), ConfigFile("new", "decode", {}))
    forecast = foresee(cluster.builder.desired(*cluster.config_files), cluster.observed())
    done = [
        [(type(action).__name__, action.name) for stage in step for action in stage if action.kind is not REVISION]
        for step in forecast.steps
    ]
    assert done == [
        [("Create", "new"), ("Delete", "demo-0-decode-0-0")],
        [("Create", "demo-0-decode-0-0"), ("Delete", "old")],
    ]
