from __future__ import annotations

import pytest

from baton.planning.naming import Slot, entry_name, group_name, pod_name, role_id, slot_of


def test_names_are_those_existing_clusters_use() -> None:
    assert group_name("sample", 0) == "sample-0"
    assert role_id("prefill", 1) == "prefill-1"
    assert pod_name("sample", Slot(group=0, role="prefill", replica=1, worker=2)) == "sample-0-prefill-1-2"
    assert entry_name("sample", 0, "prefill", 1) == "sample-0-prefill-1-0"


@pytest.mark.parametrize("serving", ["demo", "demo-1", "a-0-b-1-2"])
@pytest.mark.parametrize("role", ["decode", "pre-fill", "p-1", "x-1-2"])
def test_a_pods_slot_is_read_back_from_its_name(serving: str, role: str) -> None:
    slot = Slot(group=12, role=role, replica=3, worker=40)
    assert slot_of(serving, pod_name(serving, slot)) == slot


@pytest.mark.parametrize(
    "name",
    [
        "other-0-prefill-0-0",
        "demo",
        "demo-0-prefill-0",
        "demo-x-prefill-0-0",
        "demo-0-prefill-0-x",
        "demo-00-prefill-0-0",
        "demo-0-prefill-0-0-",
        "demo-٣-prefill-0-0",
        "demo-0--0-0\n",
    ],
)
def test_names_of_other_shapes_have_no_slot(name: str) -> None:
    assert slot_of("demo", name) is None
