from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import yaml
from pydantic import ConfigDict, Field

from baton.api.crd import DEFINITIONS, manifest_of, schema_of
from baton.api.meta import ApiModel, IntOrPercent, validations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.api.meta import JsonObject

CRDS = Path(__file__).parents[3] / "crds"
MANIFESTS = {definition.kind: manifest_of(definition) for definition in DEFINITIONS}
LAST_APPLIED_LIMIT = 262_144
"""Bytes of all annotations of an object, among them the copy that client-side `kubectl apply` keeps."""


def version(kind: str) -> JsonObject:
    (only,) = MANIFESTS[kind]["spec"]["versions"]
    assert isinstance(only, dict)
    return only


def schema(kind: str) -> JsonObject:
    found = version(kind)["schema"]["openAPIV3Schema"]
    assert isinstance(found, dict)
    return found


def at(kind: str, path: str) -> JsonObject:
    node = schema(kind)
    for part in path.split("."):
        node = node["items"] if part == "[]" else node["properties"][part]
    return node


def walk(node: JsonObject, path: str = "") -> Iterator[tuple[str, JsonObject]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from walk(node[key], f"{path}[]")


def test_the_written_files_are_what_the_models_say() -> None:
    written = {path.name: yaml.safe_load(path.read_text()) for path in CRDS.iterdir()}

    assert written == {f"{definition.plural}.yaml": MANIFESTS[definition.kind] for definition in DEFINITIONS}


@pytest.mark.parametrize("path", sorted(CRDS.iterdir()), ids=lambda path: path.name)
def test_the_files_are_small_enough_for_client_side_apply(path: Path) -> None:
    assert path.stat().st_size < LAST_APPLIED_LIMIT // 2


def test_kinds_have_the_names_that_existing_clusters_know() -> None:
    names = {
        kind: (manifest["metadata"]["name"], manifest["spec"]["scope"], manifest["spec"]["names"])
        for kind, manifest in MANIFESTS.items()
    }

    assert names["ModelServing"] == (
        "modelservings.workload.serving.volcano.sh",
        "Namespaced",
        {
            "kind": "ModelServing",
            "listKind": "ModelServingList",
            "plural": "modelservings",
            "singular": "modelserving",
        },
    )
    assert names["ModelRoute"][0] == "modelroutes.networking.serving.volcano.sh"
    assert names["ModelServer"][0] == "modelservers.networking.serving.volcano.sh"
    assert {version(kind)["name"] for kind in MANIFESTS} == {"v1alpha1"}


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("ModelServing", ["Replicas", "Available", "Updated", "Age"]),
        ("ModelRoute", ["Age"]),
        ("ModelServer", ["Engine", "Port", "Protocol", "Age"]),
    ],
)
def test_columns_that_are_ours_are_shown_on_demand_only(kind: str, columns: list[str]) -> None:
    assert [each["name"] for each in version(kind)["additionalPrinterColumns"] if not each.get("priority")] == columns


def test_only_a_model_serving_can_be_scaled() -> None:
    assert version("ModelServing")["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.labelSelector",
        },
    }
    assert version("ModelRoute")["subresources"] == version("ModelServer")["subresources"] == {"status": {}}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_schemas_are_structural(kind: str) -> None:
    refused = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title", "nullable", "prefixItems"}

    for path, node in walk(schema(kind)):
        assert not refused & node.keys(), path
        assert node.keys() & {"type", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"}, path
        assert not {"properties", "additionalProperties"} <= node.keys(), path


@pytest.mark.parametrize("kind", MANIFESTS)
def test_every_field_is_explained(kind: str) -> None:
    nodes = [each for each in walk(schema(kind)) if each[0] != ".metadata" and not each[0].endswith("[]")]

    assert [path for path, node in nodes if not node.get("description")] == []


@pytest.mark.parametrize("kind", MANIFESTS)
def test_the_api_server_invents_no_status(kind: str) -> None:
    assert [path for path, node in walk(schema(kind)["properties"]["status"]) if "default" in node] == []


@pytest.mark.parametrize(
    ("kind", "path", "default"),
    [
        ("ModelServing", "spec.replicas", 1),
        ("ModelServing", "spec.schedulerName", "volcano"),
        ("ModelServing", "spec.recoveryPolicy", "RoleRecreate"),
        ("ModelServing", "spec.rolloutStrategy.type", "ServingGroupRollingUpdate"),
        ("ModelServing", "spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable", 1),
        ("ModelServing", "spec.template.restartGracePeriodSeconds", 0),
        ("ModelServing", "spec.template.roles.[].replicas", 1),
        ("ModelServing", "spec.template.roles.[].maxUnavailable", 1),
        ("ModelServing", "spec.plugins.[].type", "BuiltIn"),
        ("ModelRoute", "spec.rules.[].targetModels.[].weight", 100),
        ("ModelRoute", "spec.rateLimit.unit", "second"),
        ("ModelServer", "spec.workloadPort.protocol", "http"),
        ("ModelServer", "spec.trafficPolicy.retry.retryInterval", "100ms"),
        ("ModelServer", "spec.kvConnector.type", "http"),
    ],
)
def test_defaults_are_those_of_existing_clusters(kind: str, path: str, default: int | str) -> None:
    assert at(kind, path)["default"] == default


def test_a_role_needs_no_more_than_its_name_where_a_typed_engine_computes_the_rest() -> None:
    assert at("ModelServing", "spec.template.roles.[]")["required"] == ["name"]
    assert at("ModelServing", "spec.template")["required"] == ["roles"]


def test_roles_are_patched_by_their_place() -> None:
    assert "x-kubernetes-list-type" not in at("ModelServing", "spec.template.roles")


@pytest.mark.parametrize(("kind", "merged"), [("ModelServing", False), ("ModelRoute", True), ("ModelServer", True)])
def test_conditions_are_merged_by_type_where_nobody_expects_a_plain_list(kind: str, merged: bool) -> None:
    assert (at(kind, "status.conditions").get("x-kubernetes-list-map-keys") == ["type"]) is merged


def test_pod_specs_keep_the_fields_that_the_schema_does_not_name() -> None:
    spec = at("ModelServing", "spec.template.roles.[].entryTemplate.spec")

    assert spec["x-kubernetes-preserve-unknown-fields"] is True
    assert spec["properties"]["containers"]["items"]["x-kubernetes-preserve-unknown-fields"] is True


def test_integers_are_published_with_their_width() -> None:
    assert at("ModelServing", "spec.replicas")["format"] == "int32"
    assert at("ModelServing", "status.observedGeneration")["format"] == "int64"


class Part(ApiModel):
    """A part
    in two lines."""

    model_config = ConfigDict(json_schema_extra=validations(("a", "of the part")))

    word: Literal["only"] = "only"
    share: float | None = Field(default=None, gt=0, lt=1)
    anything: Any = None
    amount: IntOrPercent = Field(default=1, description="An amount.")


class Whole(ApiModel):
    """A whole."""

    plain: Part
    described: Part | None = Field(
        default=None, description="The other part.", json_schema_extra=validations(("b", "of the field"))
    )


def test_what_a_model_says_is_said_in_the_words_of_a_structural_schema() -> None:
    part = schema_of(Whole)["properties"]["plain"]

    assert part["description"] == "A part in two lines."
    assert part["properties"] == {
        "word": {"type": "string", "enum": ["only"], "default": "only"},
        "share": {
            "type": "number",
            "minimum": 0.0,
            "exclusiveMinimum": True,
            "maximum": 1.0,
            "exclusiveMaximum": True,
        },
        "anything": {"x-kubernetes-preserve-unknown-fields": True},
        "amount": {
            "x-kubernetes-int-or-string": True,
            "minimum": 0,
            "pattern": "^(100|[1-9]?[0-9])%$",
            "default": 1,
            "description": "An amount.",
        },
    }


def test_a_field_describes_itself_and_adds_its_rules_to_those_of_its_type() -> None:
    described = schema_of(Whole)["properties"]["described"]

    assert described["description"] == "The other part."
    assert [rule["rule"] for rule in described["x-kubernetes-validations"]] == ["a", "b"]


def test_a_model_that_no_structural_schema_can_say_is_a_mistake_of_ours() -> None:
    class Either(ApiModel):
        value: int | list[int]

    with pytest.raises(ValueError, match="cannot say anyOf"):
        schema_of(Either)
