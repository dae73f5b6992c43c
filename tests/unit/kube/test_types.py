from __future__ import annotations

import pytest

from baton.kube.resources import LEASES, NODES, PODS
from baton.kube.types import ObjectReference, key_of


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (PODS.path(), "/api/v1/pods"),
        (PODS.path("ns"), "/api/v1/namespaces/ns/pods"),
        (PODS.path("ns", "a"), "/api/v1/namespaces/ns/pods/a"),
        (PODS.path("ns", "a", "status"), "/api/v1/namespaces/ns/pods/a/status"),
        (LEASES.path("ns", "a"), "/apis/coordination.k8s.io/v1/namespaces/ns/leases/a"),
        (NODES.path(name="n1"), "/api/v1/nodes/n1"),
        (NODES.path("ignored", "n1"), "/api/v1/nodes/n1"),
        (PODS.path("ns", "a/b?c"), "/api/v1/namespaces/ns/pods/a%2Fb%3Fc"),
    ],
)
def test_paths_follow_the_api_conventions(path: str, expected: str) -> None:
    assert path == expected


@pytest.mark.parametrize(("namespace", "name"), [("ns", ".."), ("ns", ""), ("..", "a"), ("", "a"), (None, "a")])
def test_a_path_that_would_reach_another_object_is_refused(namespace: str | None, name: str) -> None:
    with pytest.raises(ValueError, match=r"namespace|name"):
        PODS.path(namespace, name)


def test_the_api_version_of_the_core_group_has_no_group() -> None:
    assert PODS.api_version == "v1"
    assert LEASES.api_version == "coordination.k8s.io/v1"


def test_a_reference_names_the_object_it_was_made_of() -> None:
    found = {"metadata": {"namespace": "ns", "name": "a", "uid": "u"}}
    assert ObjectReference.of(PODS, found) == ObjectReference("v1", "Pod", "ns", "a", "u")
    assert key_of(found) == ("ns", "a")


def test_a_cluster_wide_object_has_the_empty_namespace() -> None:
    found = {"metadata": {"name": "n1", "uid": "u"}}
    assert ObjectReference.of(NODES, found).namespace == ""
    assert key_of(found) == ("", "n1")
