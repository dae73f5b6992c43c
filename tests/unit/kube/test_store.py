from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from baton.kube.store import Store

if TYPE_CHECKING:
    from baton.kube.types import JsonObject


@dataclass(frozen=True)
class PodName:
    name: str
    uid: str
    node: str | None


def pod(name: str, *, version: int, uid: str = "", node: str | None = None) -> JsonObject:
    metadata = {"namespace": "ns", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"nodeName": node}}


def project(found: JsonObject) -> PodName:
    return PodName(found["metadata"]["name"], found["metadata"]["uid"], found["spec"]["nodeName"])


Told = list[tuple[PodName | None, PodName | None]]


@pytest.fixture
def store() -> Store[PodName]:
    made = Store(project)
    made.add_index("node", lambda view: () if view.node is None else (view.node,))
    return made


@pytest.fixture
def told(store: Store[PodName]) -> Told:
    changes: Told = []
    store.subscribe(lambda old, new: changes.append((old, new)))
    return changes


def test_an_object_is_found_by_namespace_and_name(store: Store[PodName], told: Told) -> None:
    store.offer("ADDED", pod("a", version=1))
    view = PodName("a", "uid-a", None)
    assert store.get(("ns", "a")) == view
    assert store.get(("other", "a")) is None
    assert store.values() == [view]
    assert len(store) == 1
    assert told == [(None, view)]


def test_a_cluster_wide_object_has_the_empty_namespace(store: Store[PodName]) -> None:
    node = pod("n1", version=1)
    del node["metadata"]["namespace"]
    assert store.offer("ADDED", node) == ("", "n1")
    assert store.get(("", "n1")) is not None


def test_a_change_is_told_with_the_old_state_and_the_new(store: Store[PodName], told: Told) -> None:
    store.offer("ADDED", pod("a", version=1))
    store.offer("MODIFIED", pod("a", version=2, node="n1"))
    assert told[1] == (PodName("a", "uid-a", None), PodName("a", "uid-a", "n1"))


def test_a_deletion_is_told_with_the_last_known_state(store: Store[PodName], told: Told) -> None:
    store.offer("ADDED", pod("a", version=1, node="n1"))
    store.offer("DELETED", pod("a", version=2))
    assert told[1] == (PodName("a", "uid-a", "n1"), None)
    assert store.get(("ns", "a")) is None


def test_the_same_version_again_is_no_change(store: Store[PodName], told: Told) -> None:
    store.offer("ADDED", pod("a", version=1))
    store.offer(None, pod("a", version=1))
    store.offer("ADDED", pod("a", version=1))
    assert len(told) == 1


@pytest.mark.parametrize("uid", ["uid-a", "uid-before"])
def test_an_event_older_than_what_is_known_is_dropped(store: Store[PodName], told: Told, uid: str) -> None:
    store.offer("ADDED", pod("a", version=10, node="new"))
    store.offer("MODIFIED", pod("a", version=9, uid=uid, node="old"))
    assert store.get(("ns", "a")) == PodName("a", "uid-a", "new")
    assert len(told) == 1


def test_after_a_restore_of_the_server_lower_versions_are_believed(store: Store[PodName]) -> None:
    store.offer("ADDED", pod("a", version=1000, node="before"))
    store.offer("ADDED", pod("b", version=1001))
    store.offer("DELETED", pod("b", version=1002))
    store.forget_versions()
    store.offer(None, pod("a", version=7, node="after"))
    store.offer(None, pod("b", version=8, node="after"))
    assert [view.name for view in store.by_index("node", "after")] == ["a", "b"]
    assert store.by_index("node", "before") == []


@pytest.mark.parametrize("late", ["ADDED", "MODIFIED", None])
@pytest.mark.parametrize("version", [6, 7])
def test_the_answer_to_a_write_that_comes_after_the_end_revives_nothing(
    store: Store[PodName], told: Told, late: str | None, version: int
) -> None:
    store.offer("ADDED", pod("a", version=5))
    store.offer("DELETED", pod("a", version=7))
    store.offer(late, pod("a", version=version))
    assert store.get(("ns", "a")) is None
    assert len(told) == 2
    store.offer("ADDED", pod("a", version=8, uid="next"))
    assert store.get(("ns", "a")) == PodName("a", "next", None)


def test_the_end_of_something_never_seen_is_remembered_too(store: Store[PodName]) -> None:
    store.offer("DELETED", pod("a", version=7))
    store.offer("ADDED", pod("a", version=6))
    assert len(store) == 0


def test_only_so_many_ends_are_remembered(store: Store[PodName]) -> None:
    for number in range(5000):
        store.offer("DELETED", pod(f"p{number}", version=number + 10))
    store.offer("ADDED", pod("p0", version=1))
    store.offer("ADDED", pod("p4999", version=1))
    assert [view.name for view in store.values()] == ["p0"]


def test_what_was_written_after_a_list_survives_it(store: Store[PodName], told: Told) -> None:
    store.offer("ADDED", pod("old", version=3))
    store.offer("ADDED", pod("written", version=12))
    store.keep_only(set(), at="10")
    assert [view.name for view in store.values()] == ["written"]
    store.offer("ADDED", pod("old", version=9))
    assert len(store) == 1


def test_versions_that_are_no_numbers_are_not_compared(store: Store[PodName]) -> None:
    opaque = pod("a", version=5)
    opaque["metadata"]["resourceVersion"] = "b7"
    store.offer("ADDED", opaque)
    store.offer("MODIFIED", pod("a", version=1, node="n1"))
    assert store.get(("ns", "a")) == PodName("a", "uid-a", "n1")


def test_the_late_deletion_of_a_predecessor_does_not_remove_its_successor(store: Store[PodName], told: Told) -> None:
    store.offer("ADDED", pod("a", version=1, uid="first"))
    store.offer("ADDED", pod("a", version=3, uid="second"))
    store.offer("DELETED", pod("a", version=2, uid="first"))
    assert store.get(("ns", "a")) == PodName("a", "second", None)
    assert told[-1] == (None, PodName("a", "second", None))


def test_a_successor_is_told_after_the_end_of_its_predecessor(store: Store[PodName], told: Told) -> None:
    store.offer("ADDED", pod("a", version=1, uid="first", node="n1"))
    store.offer("ADDED", pod("a", version=3, uid="second", node="n2"))
    first, second = PodName("a", "first", "n1"), PodName("a", "second", "n2")
    assert told == [(None, first), (first, None), (None, second)]
    assert store.by_index("node", "n1") == []


def test_a_deletion_of_something_unknown_is_nothing(store: Store[PodName], told: Told) -> None:
    store.offer("DELETED", pod("a", version=1))
    assert told == []


def test_what_a_list_does_not_hold_is_dropped(store: Store[PodName], told: Told) -> None:
    for name in ("a", "b", "c"):
        store.offer("ADDED", pod(name, version=1, node="n1"))
    store.keep_only({("ns", "b")})
    assert [view.name for view in store.values()] == ["b"]
    assert told[3:] == [(PodName("a", "uid-a", "n1"), None), (PodName("c", "uid-c", "n1"), None)]
    assert [view.name for view in store.by_index("node", "n1")] == ["b"]


def test_an_index_follows_every_change(store: Store[PodName]) -> None:
    store.offer("ADDED", pod("a", version=1, node="n1"))
    store.offer("ADDED", pod("b", version=2, node="n1"))
    store.offer("ADDED", pod("c", version=3))
    assert [view.name for view in store.by_index("node", "n1")] == ["a", "b"]
    store.offer("ADDED", pod("a", version=4, node="n2"))
    assert [view.name for view in store.by_index("node", "n1")] == ["b"]
    assert [view.name for view in store.by_index("node", "n2")] == ["a"]
    store.offer("ADDED", pod("b", version=5))
    assert store.by_index("node", "n1") == []


def test_an_index_returns_the_present_projection_when_its_value_stays() -> None:
    store = Store(lambda found: (found["spec"]["nodeName"], found["metadata"]["resourceVersion"]))
    store.add_index("node", lambda view: (view[0],))
    store.offer("ADDED", pod("a", version=1, node="n1"))
    store.offer("ADDED", pod("a", version=2, node="n1"))
    assert store.by_index("node", "n1") == [("n1", "2")]


def test_an_index_made_later_holds_what_is_there(store: Store[PodName]) -> None:
    store.offer("ADDED", pod("a", version=1, node="n1"))
    store.add_index("letters", lambda view: {*view.name, "all"})
    assert len(store.by_index("letters", "a")) == 1
    assert len(store.by_index("letters", "all")) == 1


def test_an_index_refuses_a_string_where_a_collection_is_meant(store: Store[PodName]) -> None:
    store.offer("ADDED", pod("a", version=1))
    with pytest.raises(TypeError, match="collection of values"):
        store.add_index("name", lambda view: view.name)


def test_a_late_subscriber_hears_of_what_is_there(store: Store[PodName]) -> None:
    store.offer("ADDED", pod("a", version=1))
    changes: Told = []
    store.subscribe(lambda old, new: changes.append((old, new)))
    assert changes == [(None, PodName("a", "uid-a", None))]


def test_indices_are_up_to_date_when_subscribers_are_called(store: Store[PodName]) -> None:
    found = []
    store.subscribe(lambda old, new: found.append(len(store.by_index("node", "n1"))))
    store.offer("ADDED", pod("a", version=1, node="n1"))
    store.offer("DELETED", pod("a", version=2))
    assert found == [1, 0]
