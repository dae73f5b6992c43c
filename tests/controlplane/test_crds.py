"""What the API server itself makes of the definitions: CEL rules, defaults, explanations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from baton.dev.provider import ControlPlaneError

if TYPE_CHECKING:
    from cluster import Cluster

pytestmark = pytest.mark.controlplane

Document = dict[str, Any]
ABSENT = object()
CONTAINERS = {"spec": {"containers": [{"name": "engine", "image": "engine:1"}]}}
SERVING: Document = {
    "apiVersion": "workload.serving.volcano.sh/v1alpha1",
    "kind": "ModelServing",
    "metadata": {"name": "subject"},
    "spec": {
        "replicas": 0,
        "template": {
            "gangPolicy": {"minRoleReplicas": {"prefill": 1}},
            "roles": [{"name": "prefill", "workerReplicas": 0, "entryTemplate": CONTAINERS}],
        },
    },
}
ROUTE: Document = {
    "apiVersion": "networking.serving.volcano.sh/v1alpha1",
    "kind": "ModelRoute",
    "metadata": {"name": "subject"},
    "spec": {"modelName": "m", "rules": [{"targetModels": [{"modelServingName": "subject"}]}]},
}
SOURCES = {"hostPath": {"path": "/a"}, "persistentVolumeClaim": {"claimName": "a"}}


def changed(document: Document, path: str, value: object) -> Document:
    """Return a copy with the field at a path such as `spec/rules/0` set, or removed for ABSENT."""
    result: Document = json.loads(json.dumps(document))
    node: Any = result
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in parents:
        node = node[part]
    if value is ABSENT:
        del node[last]
    else:
        node[last] = value
    return result


def refusal(cluster: Cluster, *arguments: str, document: Document | None = None) -> str:
    with pytest.raises(ControlPlaneError) as refused:
        cluster.run(*arguments, standard_input=json.dumps(document) if document else None)
    return str(refused.value)


@pytest.mark.parametrize(
    ("document", "path", "value", "complaint"),
    [
        (SERVING, "spec/template/roles/0/workerReplicas", ABSENT, "spec.template: "),
        (SERVING, "spec/template/roles/0/entryTemplate/spec", {}, "spec.template: "),
        (SERVING, "spec/template/roles", SERVING["spec"]["template"]["roles"] * 2, "roles name must be unique"),
        (SERVING, "spec/template/roles", [], "spec.template.roles"),
        (SERVING, "spec/template/roles/0/name", "thirteen-long", "spec.template.roles[0].name"),
        (SERVING, "spec/template/roles/0/maxUnavailable", "120%", "spec.template.roles[0].maxUnavailable"),
        (SERVING, "spec/template/roles/0/replica", 1, 'unknown field "spec.template.roles[0].replica"'),
        (SERVING, "spec/template/engine", {"model": {"source": SOURCES}}, "spec.template.engine.model.source"),
        (ROUTE, "spec/modelName", ABSENT, "set modelName, loraAdapters or both"),
        (ROUTE, "spec/rules/0/targetModels/0/modelServerName", "a", "spec.rules[0].targetModels[0]: "),
        (ROUTE, "spec/trafficPolicy", {"timeout": "5 min"}, "spec.trafficPolicy.timeout"),
    ],
)
def test_the_api_server_refuses_what_the_definitions_forbid(
    programs: Cluster, document: Document, path: str, value: object, complaint: str
) -> None:
    wrong = changed(document, path, value)

    assert complaint in refusal(programs, "create", "--dry-run=server", "--filename=-", document=wrong)


def test_defaults_are_filled_in_roles_are_patched_by_place_and_what_is_fixed_stays(cluster: Cluster) -> None:
    cluster.apply(SERVING, ROUTE)

    spec = cluster.get("modelserving", "subject")["spec"]
    assert (spec["schedulerName"], spec["recoveryPolicy"]) == ("volcano", "RoleRecreate")
    assert spec["template"]["roles"][0]["maxUnavailable"] == 1

    role = json.dumps([{"op": "replace", "path": "/spec/template/roles/0/replicas", "value": 2}])
    cluster.run("patch", "modelserving", "subject", "--type=json", f"--patch={role}")
    assert cluster.get("modelserving", "subject")["spec"]["template"]["roles"][0]["replicas"] == 2

    for kind, patch, complaint in (
        ("modelserving", {"spec": {"template": {"gangPolicy": None}}}, "gangPolicy is required once set"),
        (
            "modelserving",
            {"spec": {"template": {"gangPolicy": {"minRoleReplicas": {"prefill": 0}}}}},
            "minRoleReplicas is immutable",
        ),
        ("modelroute", {"spec": {"modelName": "other"}}, "modelName is immutable"),
    ):
        patched = json.dumps(patch)
        assert complaint in refusal(cluster, "patch", kind, "subject", "--type=merge", f"--patch={patched}")


def test_fields_are_explained(programs: Cluster) -> None:
    explained = programs.run("explain", "modelserving.spec.template.roles.engine.parallel.data")

    assert "Data parallel size of one role replica" in explained
