"""CustomResourceDefinitions from the models: names, columns, subresources, and structural schemas.

Writes no files (`baton crds` does) and checks no objects (`baton.api.admission` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from baton.api import labels
from baton.api.meta import ApiModel, JsonObject, Kind
from baton.api.route import ModelRoute
from baton.api.server import ModelServer
from baton.api.serving import ModelServing

_RULES: Final = "x-kubernetes-validations"
_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_UNSAYABLE: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "patternProperties", "propertyNames"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; with priority 1 it is shown by `-o wide` only."""

    name: str
    type: str
    path: str
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the scale subresource finds its three values."""

    spec_replicas: str
    status_replicas: str
    label_selector: str


@dataclass(frozen=True, slots=True)
class Definition:
    """What a CustomResourceDefinition says besides its schema."""

    model: type[Kind]
    group: str
    plural: str
    columns: tuple[Column, ...]
    scale: Scale | None = None

    @property
    def kind(self) -> str:
        """Name of the kind."""
        return self.model.__name__

    @property
    def api_version(self) -> str:
        """Group and version as objects carry it."""
        return f"{self.group}/{labels.VERSION}"


def _condition(name: str, description: str) -> Column:
    path = f".status.conditions[?(@.type=='{name}')].status"
    return Column(name, "string", path, description, priority=1)


_AGE: Final = Column("Age", "date", ".metadata.creationTimestamp")

DEFINITIONS: Final = (
    Definition(
        model=ModelServing,
        group=labels.WORKLOAD_GROUP,
        plural="modelservings",
        columns=(
            Column("Replicas", "integer", ".status.replicas", "ServingGroups that exist"),
            Column("Available", "integer", ".status.availableReplicas", "ServingGroups whose pods are all ready"),
            Column("Updated", "integer", ".status.updatedReplicas", "ServingGroups of the present template"),
            Column("Desired", "integer", ".spec.replicas", "ServingGroups asked for", priority=1),
            _condition("Accepted", "Whether the spec can be used"),
            _AGE,
        ),
        scale=Scale(".spec.replicas", ".status.replicas", ".status.labelSelector"),
    ),
    Definition(
        model=ModelRoute,
        group=labels.NETWORKING_GROUP,
        plural="modelroutes",
        columns=(
            Column("Model", "string", ".spec.modelName", "Model name in requests", priority=1),
            _condition("Accepted", "Whether the spec can be used"),
            _condition("ResolvedRefs", "Whether its targets exist"),
            _condition("Programmed", "Whether routers can serve it"),
            _AGE,
        ),
    ),
    Definition(
        model=ModelServer,
        group=labels.NETWORKING_GROUP,
        plural="modelservers",
        columns=(
            Column("Engine", "string", ".spec.inferenceEngine", "Engine family"),
            Column("Port", "integer", ".spec.workloadPort.port", "API port of the engine"),
            Column("Protocol", "string", ".spec.workloadPort.protocol", "Protocol of the API port"),
            Column("Model", "string", ".spec.model", "Model name the engine knows", priority=1),
            _condition("Accepted", "Whether the spec can be used"),
            _AGE,
        ),
    ),
)


def manifest_of(definition: Definition) -> JsonObject:
    """Return the CustomResourceDefinition of a kind, ready to apply."""
    kind = definition.kind
    subresources: JsonObject = {"status": {}}
    if definition.scale:
        subresources["scale"] = {
            "specReplicasPath": definition.scale.spec_replicas,
            "statusReplicasPath": definition.scale.status_replicas,
            "labelSelectorPath": definition.scale.label_selector,
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{definition.plural}.{definition.group}"},
        "spec": {
            "group": definition.group,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": definition.plural,
                "singular": kind.lower(),
            },
            "versions": [
                {
                    "name": labels.VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [_column(column) for column in definition.columns],
                    "subresources": subresources,
                    "schema": {"openAPIV3Schema": _root(definition.model)},
                }
            ],
        },
    }


def schema_of(model: type[ApiModel]) -> JsonObject:
    """Return the structural schema of a model: inlined, without titles, nulls and empty defaults.

    Raises:
        ValueError: the model uses something that a structural schema cannot say.

    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(schema, schema.get("$defs", {}))


def _root(model: type[Kind]) -> JsonObject:
    schema = schema_of(model)
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string", "description": "Group and version of this kind."}
    properties["kind"] = {"type": "string", "description": f"{model.__name__}."}
    properties["metadata"] = {"type": "object"}
    properties["status"] = _without_defaults(properties["status"])
    return {**schema, "required": ["spec"]}


def _column(column: Column) -> JsonObject:
    written: JsonObject = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        written["description"] = column.description
    if column.priority:
        written["priority"] = column.priority
    return written


def _structural(node: JsonObject, definitions: JsonObject) -> JsonObject:
    result = _translated(_inlined(node, definitions))
    if "properties" in result:
        properties = result["properties"].items()
        result["properties"] = {name: _structural(child, definitions) for name, child in properties}
    for key in ("items", "additionalProperties"):
        if key in result:
            result[key] = _structural(result[key], definitions)
    if unknown := _UNSAYABLE & result.keys():
        raise ValueError(f"a structural schema cannot say {', '.join(sorted(unknown))}: {node}")
    return result


def _translated(node: JsonObject) -> JsonObject:
    """Say one level in the words of a structural schema; the levels below are left as they are."""
    result = {key: value for key, value in node.items() if key not in {"title", "$defs"}}
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if result.get("default") in (None, ""):
        result.pop("default", None)
    if result.get("additionalProperties") is True:
        result.pop("additionalProperties")
    if "const" in result:
        result["enum"] = [result.pop("const")]
    for inclusive, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in result:
            result[inclusive], result[exclusive] = result[exclusive], True
    if result.get("type") == "integer":
        result.setdefault("format", "int32")
    if "type" not in result and _INT_OR_STRING not in result:
        result[_PRESERVE] = True
    return result


def _inlined(node: JsonObject, definitions: JsonObject) -> JsonObject:
    """Follow `$ref` and drop the null of an optional field; what stands beside them wins over what they bring."""
    while True:
        branches = [branch for branch in node.get("anyOf", []) if branch != {"type": "null"}]
        if "$ref" in node:
            base = definitions[node["$ref"].removeprefix("#/$defs/")]
        elif len(branches) == 1:
            base = branches[0]
        else:
            return node
        own = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
        rules = [*base.get(_RULES, []), *own.get(_RULES, [])]
        node = {**base, **own} | ({_RULES: rules} if rules else {})


def _without_defaults(node: Any) -> Any:
    """Drop the defaults of a status: the API server would otherwise invent what no controller has seen."""
    if isinstance(node, dict):
        return {key: _without_defaults(value) for key, value in node.items() if key != "default"}
    return [_without_defaults(item) for item in node] if isinstance(node, list) else node
