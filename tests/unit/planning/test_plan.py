from __future__ import annotations

from typing import TYPE_CHECKING

from baton.planning.plan import is_deleting
from builders import serving
from planned_cluster import Cluster, running

if TYPE_CHECKING:
    from baton.planning.model import Plan

PAIR = serving().role("prefill").role("decode")


def notes(made: Plan) -> list[tuple[str, str]]:
    return [(note.reason.value, note.message) for note in made.notes]


def test_a_plan_carried_out_asks_for_nothing_more() -> None:
    cluster = Cluster(PAIR.replicas(2).role("decode", replicas=2, workers=1))
    assert cluster.step().actions
    assert cluster.plan().actions == ()


def test_nothing_is_done_for_a_model_serving_that_is_being_deleted() -> None:
    cluster = running(PAIR)
    cluster.vanish("demo-0-decode-0-0")
    cluster.builder = cluster.builder.with_metadata(deletionTimestamp="2026-01-01T00:00:00Z")
    built = cluster.builder.build()
    made = cluster.plan()
    assert is_deleting(built)
    assert not is_deleting(PAIR.build())
    assert (made.stages, made.notes, made.requeue_after, made.status) == ((), (), None, built.status)


def test_creation_running_and_deletion_of_each_role_replica_are_told_as_existing_clients_read_them() -> None:
    cluster = Cluster(PAIR.role("decode", replicas=2, workers=1))
    assert notes(cluster.step()) == [
        ("RoleCreating", "Role prefill/prefill-0 in ServingGroup demo-0 is now Creating"),
        ("RoleCreating", "Role decode/decode-0 in ServingGroup demo-0 is now Creating"),
        ("RoleCreating", "Role decode/decode-1 in ServingGroup demo-0 is now Creating"),
    ]
    assert notes(cluster.plan()) == []
    cluster.make_ready()
    cluster.edit(cluster.builder.role("decode", replicas=1, workers=1))
    assert notes(cluster.step()) == [
        ("RoleRunning", "Role decode/decode-0 in ServingGroup demo-0 is now Running"),
        ("RoleDeleting", "Role decode/decode-1 in ServingGroup demo-0 is now Deleting"),
        ("RoleRunning", "Role prefill/prefill-0 in ServingGroup demo-0 is now Running"),
    ]
    cluster.finish_deletions()
    assert [reason for reason, _ in notes(cluster.plan())] == ["RoleRunning", "RoleRunning"]


def test_a_plan_is_looked_at_again_only_for_time_itself() -> None:
    cluster = Cluster(PAIR.grace(30))
    assert cluster.step().requeue_after is None
    cluster.restart("demo-0-decode-0-0")
    cluster.pass_time(5)
    cluster.restart("demo-0-prefill-0-0")
    assert cluster.plan().requeue_after == 25.0
