from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import serving
from planned_cluster import Cluster, running

PAIR = serving().role("prefill").role("decode")


def counters(cluster: Cluster) -> tuple[int, int, int, int]:
    """Plan, and return replicas, current, updated and available replicas of the status."""
    status = cluster.plan().status
    return status.replicas, status.current_replicas, status.updated_replicas, status.available_replicas


def conditions(cluster: Cluster) -> dict[str, tuple[str, str, str]]:
    return {entry.type: (entry.status, entry.reason, entry.message) for entry in cluster.plan().status.conditions}


def rolling(**limits: Any) -> Cluster:
    """Return a cluster of three running groups right after the user changed a template."""
    cluster = running(PAIR.replicas(3).rollout(**limits))
    cluster.edit(cluster.builder.role("decode", image="engine:2"))
    return cluster


def test_groups_count_from_the_moment_they_are_created() -> None:
    assert counters(Cluster(PAIR.replicas(3))) == (3, 0, 3, 0)


def test_groups_are_available_once_all_their_pods_are_ready() -> None:
    cluster = Cluster(PAIR.replicas(2))
    cluster.step()
    cluster.make_ready()
    assert counters(cluster) == (2, 2, 2, 2)
    cluster.change("demo-1-decode-0-0", ready=False)
    assert counters(cluster) == (2, 0, 2, 1)


def test_groups_that_leave_count_as_replicas_until_they_are_gone() -> None:
    cluster = running(PAIR.replicas(3))
    cluster.edit(PAIR.replicas(1))
    assert counters(cluster) == (3, 0, 1, 1)
    cluster.step()
    assert counters(cluster) == (3, 0, 1, 1)
    cluster.finish_deletions()
    assert counters(cluster) == (1, 1, 1, 1)


def test_a_surplus_role_replica_keeps_its_group_unavailable_until_it_is_gone() -> None:
    cluster = running(PAIR.role("decode", replicas=2))
    cluster.edit(PAIR)
    cluster.step()
    assert counters(cluster)[3] == 0
    cluster.finish_deletions()
    assert counters(cluster)[3] == 1


def test_the_first_status_of_a_new_generation_never_looks_finished() -> None:
    # Clients stop waiting once the generation is observed and all counters equal the replicas.
    for change in (PAIR.replicas(2), PAIR.replicas(4), PAIR.replicas(3).role("decode", image="engine:2")):
        cluster = running(PAIR.replicas(3))
        cluster.edit(change)
        status = cluster.plan().status
        assert status.observed_generation == 2
        assert {status.replicas, status.available_replicas} != {change.spec["replicas"]}


def test_counters_and_revisions_during_a_roll_out() -> None:
    cluster = rolling()
    old = cluster.builder.observed_status["currentRevision"]
    seen = []
    for _ in range(3):
        cluster.step()
        cluster.finish_deletions()
        made = cluster.step()
        seen.append(counters(cluster))
        assert made.status.update_revision != old
        assert made.status.current_revision == (old if len(seen) < 3 else made.status.update_revision)
        cluster.make_ready()
    assert seen == [(3, 2, 1, 2), (3, 1, 2, 2), (3, 0, 3, 2)]
    assert counters(cluster) == (3, 3, 3, 3)


def test_with_a_partition_both_revisions_stay() -> None:
    cluster = rolling(partition=2)
    old = cluster.builder.observed_status["currentRevision"]
    cluster.converge()
    status = cluster.plan().status
    assert counters(cluster) == (3, 2, 1, 3)
    assert (status.current_revision, status.update_revision != old) == (old, True)


def test_with_a_partition_updated_groups_are_never_current() -> None:
    assert counters(running(PAIR.replicas(2).rollout(partition=1))) == (2, 0, 2, 2)


def test_the_current_revision_stays_while_a_group_has_it_and_is_the_most_common_old_one_otherwise() -> None:
    cluster = rolling(partition=1)
    first = cluster.builder.observed_status["currentRevision"]
    cluster.converge()
    second = cluster.builder.observed_status["updateRevision"]
    cluster.edit(cluster.builder.role("decode", image="engine:3").rollout(partition=3))
    assert cluster.plan().status.current_revision == first
    cluster.builder = cluster.builder.status({})
    assert cluster.plan().status.current_revision == second


def test_roles_are_counted_over_all_groups() -> None:
    cluster = running(PAIR.replicas(2).role("decode", replicas=3))
    cluster.change("demo-1-decode-0-0", ready=False)
    roles = cluster.plan().status.roles
    assert [(role.name, role.desired, role.ready) for role in roles] == [("prefill", 2, 2), ("decode", 6, 5)]
    cluster.edit(PAIR.replicas(1).role("decode", replicas=3))
    roles = cluster.plan().status.roles
    assert [(role.name, role.desired, role.ready) for role in roles] == [("prefill", 1, 1), ("decode", 3, 3)]


def test_role_replicas_count_as_updated_from_the_moment_they_are_created() -> None:
    cluster = rolling()
    seen = []
    for _ in range(4):
        cluster.step()
        cluster.finish_deletions()
        roles = cluster.step().status.roles
        cluster.make_ready()
        seen.append([(role.name, role.desired, role.updated) for role in roles])
    assert seen == [[("prefill", 3, 3), ("decode", 3, updated)] for updated in (1, 2, 3, 3)]


def test_the_label_selector_selects_one_pod_a_group() -> None:
    cluster = running(PAIR.replicas(2).role("prefill", replicas=3, workers=1))
    selector = cluster.plan().status.label_selector
    assert selector == (
        "modelserving.volcano.sh/entry=true,modelserving.volcano.sh/name=demo,"
        "modelserving.volcano.sh/role=prefill,modelserving.volcano.sh/role-id=prefill-0"
    )
    wanted = dict(term.split("=") for term in selector.split(","))
    selected = [pod.name for pod in cluster.pods.values() if wanted.items() <= pod.labels.items()]
    assert selected == ["demo-0-prefill-0-0", "demo-1-prefill-0-0"]


def test_without_groups_everything_is_available() -> None:
    cluster = Cluster(PAIR.replicas(0))
    assert counters(cluster) == (0, 0, 0, 0)
    assert conditions(cluster)["Available"] == ("True", "AllGroupsReady", "All Serving groups are ready")


def test_groups_whose_roles_are_all_scaled_to_0_are_available() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.edit(PAIR.replicas(2).role("prefill", replicas=0).role("decode", replicas=0))
    cluster.converge()
    assert cluster.pods == {}
    assert counters(cluster) == (2, 2, 2, 2)


def test_new_groups_are_progressing() -> None:
    cluster = Cluster(PAIR.replicas(3))
    text = "Some groups is progressing: [0 1 2]"
    assert conditions(cluster) == {
        "Progressing": ("True", "GroupProgressing", text),
        "Available": ("False", "GroupProgressing", text),
    }


def test_available_ends_what_was_in_progress() -> None:
    text = "All Serving groups are ready"
    assert conditions(running(PAIR)) == {
        "Progressing": ("False", "AllGroupsReady", text),
        "Available": ("True", "AllGroupsReady", text),
    }


def test_positions_in_the_message_are_those_of_the_groups_present() -> None:
    cluster = running(PAIR.replicas(3))
    cluster.change("demo-0-decode-0-0", ready=False)
    cluster.edit(PAIR.replicas(2))
    cluster.converge()
    assert sorted({name.split("-")[1] for name in cluster.names()}) == ["1", "2"]
    cluster.change("demo-2-decode-0-0", ready=False)
    assert conditions(cluster)["Progressing"][2] == "Some groups is progressing: [1]"


def test_a_roll_out_is_an_update_in_progress_with_the_groups_done() -> None:
    cluster = rolling()
    cluster.step()
    cluster.finish_deletions()
    text = "Some groups is progressing: [2], Updated Groups are: [2]"
    found = conditions(cluster)
    assert found["UpdateInProgress"] == ("True", "GroupsUpdating", text)
    assert found["Available"] == ("False", "GroupsUpdating", text)
    assert found["Progressing"] == ("False", "GroupsUpdating", text)


def test_no_update_is_in_progress_once_only_protected_groups_are_outdated() -> None:
    cluster = rolling(partition=2)
    cluster.converge()
    assert conditions(cluster)["Available"][0] == "True"
    cluster.change("demo-2-decode-0-0", ready=False)
    found = conditions(cluster)
    assert (found["Progressing"][0], found["UpdateInProgress"][0]) == ("True", "False")


def test_protected_replicas_of_a_role_do_not_keep_it_from_being_available() -> None:
    cluster = running(serving().role("decode", replicas=3, partition=1).rollout_by_role())
    cluster.edit(cluster.builder.role("decode", replicas=3, partition=1, image="engine:2"))
    cluster.converge()
    assert conditions(cluster)["Available"][0] == "True"


@pytest.mark.parametrize(("broken", "more"), [(1, ""), (3, " and 2 more")])
def test_the_reason_for_which_pods_are_not_ready_is_told_where_people_look(broken: int, more: str) -> None:
    cluster = running(PAIR.role("decode", replicas=5))
    for number in range(broken):
        cluster.change(f"demo-0-decode-{number}-0", ready=False, problem="Unschedulable: 0/3 nodes")
    found = conditions(cluster)
    text = "Some groups is progressing: [0]"
    assert found["Available"][2] == f"{text}; demo-0-decode-0-0{more}: Unschedulable: 0/3 nodes"
    assert found["Progressing"][2] == text


def test_the_texts_stay_short_however_many_groups_there_are() -> None:
    cluster = Cluster(PAIR.replicas(2000))
    assert conditions(cluster)["Progressing"][2].endswith("98 99 and 1900 more]")
    cluster.step()
    cluster.change_all(lambda pod: replace(pod, problem="Unschedulable: 0/3 nodes"))
    assert len(conditions(cluster)["Available"][2]) < 500


def test_transition_times_move_only_with_the_status() -> None:
    cluster = running(PAIR.replicas(2))
    since = cluster.now
    cluster.step()
    cluster.pass_time(60)
    times = {entry.type: entry.last_transition_time for entry in cluster.plan().status.conditions}
    assert times["Available"] is not None
    assert times["Available"] <= since
    cluster.change("demo-0-decode-0-0", ready=False)
    cluster.step()
    first = {entry.type: entry.last_transition_time for entry in cluster.plan().status.conditions}
    assert first["Available"] == first["Progressing"] == cluster.now
    cluster.pass_time(60)
    cluster.change("demo-1-decode-0-0", ready=False)
    assert {entry.type: entry.last_transition_time for entry in cluster.plan().status.conditions} == first


def test_conditions_of_others_are_kept() -> None:
    cluster = running(PAIR)
    foreign = {"type": "Paused", "status": "True", "reason": "", "message": ""}
    status = cluster.builder.observed_status
    cluster.builder = cluster.builder.status({**status, "conditions": [foreign, *status["conditions"]]})
    assert cluster.plan().status.conditions[0].document() == foreign
