from __future__ import annotations

from typing import Any

import pytest

from baton.planning.model import Desired
from baton.planning.revision import revision_of, role_hashes
from builders import ServingBuilder, pod_template, serving

RAW = serving().role("prefill", replicas=2).role("decode", workers=1)
TYPED = serving().engine(image="vllm:1").typed_role("prefill", phase="prefill").typed_role("decode", phase="decode")


def typed(builder: ServingBuilder, **workers: int) -> Desired:
    """Return a typed ModelServing with as many workers of each role as rendering would compute."""
    built = builder.build()
    roles = [
        role.model_copy(update={"worker_replicas": workers.get(role.name, 0)}) for role in built.spec.template.roles
    ]
    return Desired(built, tuple(roles))


@pytest.mark.parametrize(
    "changed",
    [
        RAW.replicas(5),
        RAW.role("prefill", replicas=7),
        RAW.role("prefill", replicas=2, maxUnavailable=2, partition=1),
        RAW.with_spec(schedulerName="default-scheduler", plugins=[{"name": "demo-pod-tweaks"}]),
        RAW.recovery("None").rollout_by_role().grace(60),
        RAW.with_metadata(annotations={"a": "b"}, generation=9),
    ],
)
def test_what_need_not_restart_pods_is_not_part_of_the_revision(changed: ServingBuilder) -> None:
    assert revision_of(changed.desired()) == revision_of(RAW.desired())
    assert role_hashes(changed.desired()) == role_hashes(RAW.desired())


@pytest.mark.parametrize(
    "decode",
    [
        {"workers": 1, "image": "engine:2"},
        {"workers": 2},
        {"workers": 1, "workerTemplate": pod_template("worker:2")},
        {"workers": 1, "entryTemplate": pod_template(labels={"a": "b"})},
        {"workers": 1, "entryTemplate": pod_template(annotations={"a": "b"})},
    ],
)
def test_a_changed_template_changes_the_revision_and_the_hash_of_its_role_only(decode: dict[str, Any]) -> None:
    changed = RAW.role("decode", **decode).desired()
    assert revision_of(changed) != revision_of(RAW.desired())
    before, after = role_hashes(RAW.desired()), role_hashes(changed)
    assert after["decode"] != before["decode"]
    assert after["prefill"] == before["prefill"]


@pytest.mark.parametrize("changed", [RAW.role("router"), RAW.without_role("prefill")])
def test_adding_or_removing_a_role_changes_the_revision_but_no_hash(changed: ServingBuilder) -> None:
    assert revision_of(changed.desired()) != revision_of(RAW.desired())
    assert role_hashes(changed.desired()).items() >= {"decode": role_hashes(RAW.desired())["decode"]}.items()


def test_fields_at_their_defaults_do_not_count() -> None:
    # Else a release that adds a field with a default would restart everything.
    explicit = serving().role("prefill", replicas=1, maxUnavailable=1, engine=None, partition=None)
    assert role_hashes(explicit.desired()) == role_hashes(serving().role("prefill").desired())


def test_the_shared_engine_is_part_of_every_hash() -> None:
    before, after = role_hashes(typed(TYPED)), role_hashes(typed(TYPED.engine(image="vllm:2")))
    assert before.keys() == after.keys() == {"prefill", "decode"}
    assert not before.items() & after.items()


def test_parallel_sizes_of_one_role_are_part_of_the_hash_of_the_others() -> None:
    # The launch of each side names the sizes of both.
    resized = TYPED.typed_role("decode", phase="decode", parallel={"tensor": 2})
    assert not role_hashes(typed(TYPED)).items() & role_hashes(typed(resized)).items()


def test_a_typed_roles_own_flags_are_part_of_its_hash_only() -> None:
    changed = TYPED.typed_role("decode", phase="decode", image="vllm:2")
    before, after = role_hashes(typed(TYPED)), role_hashes(typed(changed))
    assert before["prefill"] == after["prefill"]
    assert before["decode"] != after["decode"]


def test_the_number_of_workers_counts_also_where_it_is_computed() -> None:
    # Should another release compute another number, the replicas are rolled out anew instead of taken for broken.
    before, after = role_hashes(typed(TYPED)), role_hashes(typed(TYPED, decode=1))
    assert before["prefill"] == after["prefill"]
    assert before["decode"] != after["decode"]


def test_revision_and_hashes_are_the_same_in_every_release() -> None:
    # A change here restarts the pods of every ModelServing when Baton is upgraded: also one by a field that is new.
    assert revision_of(RAW.desired()) == "jsxrkjw8c6"
    assert role_hashes(typed(TYPED)) == {"prefill": "lgjk75mvfs", "decode": "ghkkptkskn"}
