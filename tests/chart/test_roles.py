from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from chart.calls import BRIDGE, CERTIFICATE, ELECTION, OPERATOR, ROUTER, SECRET, Call, allowed_by, allowed_by_rule
from chart.rendering import EVERYTHING, NAMESPACE, VALUE_SETS

if TYPE_CHECKING:
    from chart.rendering import Chart, Object, Objects


def assert_allows(role: Object, needed: frozenset[Call]) -> None:
    """The role allows what is needed, nothing else, and nothing twice: every rule and every verb of it counts."""
    assert Counter(allowed_by(role)) == Counter(needed)


def bound_to(objects: Objects, account: str) -> set[tuple[str, str, str]]:
    """Return kind, namespace and name of the roles that a service account has."""
    return {
        (found["roleRef"]["kind"], found["metadata"].get("namespace", ""), found["roleRef"]["name"])
        for found in objects.of("RoleBinding", "ClusterRoleBinding")
        if {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE} in found["subjects"]
    }


def test_the_operator_may_do_what_it_does_and_nothing_else(chart: Chart) -> None:
    objects = chart.render()

    assert bound_to(objects, "baton-operator") == {
        ("ClusterRole", "", "baton-operator"),
        ("Role", NAMESPACE, "baton-operator"),
    }
    assert_allows(objects.get("ClusterRole", "baton-operator"), OPERATOR | CERTIFICATE)
    assert_allows(objects.get("Role", "baton-operator"), SECRET | ELECTION)


@pytest.mark.parametrize("values", ["little", "cert-manager", "issuer"])
def test_an_operator_that_makes_no_certificate_may_touch_no_secret(chart: Chart, values: str) -> None:
    objects = chart.render(VALUE_SETS[values])

    assert_allows(objects.get("ClusterRole", "baton-operator"), OPERATOR)
    assert_allows(objects.get("Role", "baton-operator"), ELECTION)


def test_only_a_bridge_that_is_switched_on_may_touch_leader_worker_sets(chart: Chart) -> None:
    role = chart.render({"operator": {"leaderWorkerSets": True}}).get("ClusterRole", "baton-operator")
    assert_allows(role, OPERATOR | CERTIFICATE | BRIDGE)


def test_the_router_may_only_look(chart: Chart) -> None:
    objects = chart.render()

    assert bound_to(objects, "baton-router") == {("ClusterRole", "", "baton-router")}
    assert_allows(objects.get("ClusterRole", "baton-router"), ROUTER)


def test_a_router_of_some_namespaces_looks_into_no_others(chart: Chart) -> None:
    objects = chart.render(EVERYTHING)

    assert bound_to(objects, "serving-router") == {
        ("Role", "team-a", "serving-router"),
        ("Role", "team-b", "serving-router"),
    }
    for role in objects.of("Role"):
        if role["metadata"]["name"] == "serving-router":
            assert_allows(role, ROUTER)
    (container,) = objects.get("Deployment", "serving-router")["spec"]["template"]["spec"]["containers"]
    assert [argument for argument in container["args"] if argument.startswith("--namespace")] == [
        "--namespace=team-a",
        "--namespace=team-b",
    ]


def test_no_rule_of_the_programs_can_be_left_out(chart: Chart) -> None:
    objects = chart.render()
    needed = {"baton-operator": OPERATOR | CERTIFICATE | SECRET | ELECTION, "baton-router": ROUTER}
    for name, calls in needed.items():
        rules = [
            rule
            for role in objects.of("ClusterRole", "Role")
            if role["metadata"]["name"] == name
            for rule in role["rules"]
        ]
        for left_out in rules:
            rest = {call for rule in rules if rule is not left_out for call in allowed_by_rule(rule)}
            assert calls - rest, f"{left_out} is not needed"


def test_users_get_our_kinds_with_the_roles_they_have(chart: Chart) -> None:
    objects = chart.render()
    definitions = {
        (found["spec"]["group"], found["spec"]["names"]["plural"]) for found in objects.of("CustomResourceDefinition")
    }
    for name, verbs in (("view", {"get", "list", "watch"}), ("edit", {"create", "update", "patch", "delete"})):
        role = objects.get("ClusterRole", f"baton-{name}")
        assert role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{name}"] == "true"
        allowed = set(allowed_by(role))
        assert {Call(group, plural, verb) for group, plural in definitions for verb in verbs} <= allowed
        assert not any(call.resource.endswith("/status") for call in allowed if call.verb in {"update", "patch"})

    assert chart.render(VALUE_SETS["little"]).names("ClusterRole") == {"baton-operator", "baton-router"}
