"""What all kinds share: the base model, object metadata, conditions and the scalar types of their fields.

Knows no kind and talks to nobody; schemas are made in `baton.api.crd`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

JsonObject = dict[str, Any]

_PERCENT: Final = "^(100|[1-9]?[0-9])%$"
_QUANTITY: Final = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_DURATION: Final = r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$"


def _count_or_percent(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and re.fullmatch(_PERCENT, value):
        return value
    raise ValueError('should be a count of 0 or more, or a percentage from "0%" to "100%"')


def _quantity(value: object) -> str:
    if isinstance(value, int | str) and not isinstance(value, bool) and re.fullmatch(_QUANTITY, str(value)):
        return str(value)
    raise ValueError('should be a quantity such as 64, "500m" or "700Gi"')


def _duration(value: str) -> str:
    if not re.fullmatch(_DURATION, value):
        raise ValueError('should be a duration such as "300s", "150ms" or "1m30s"')
    return value


IntOrPercent = Annotated[
    int | str,
    PlainValidator(_count_or_percent),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "minimum": 0, "pattern": _PERCENT}),
]
"""A count, or a percentage such as `"25%"`."""

Quantity = Annotated[
    str,
    PlainValidator(_quantity),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "minimum": 0, "pattern": _QUANTITY}),
]
"""A Kubernetes quantity such as `64`, `"500m"` or `"700Gi"`, kept as text."""

Duration = Annotated[str, AfterValidator(_duration), WithJsonSchema({"type": "string", "pattern": _DURATION})]
"""A Go duration such as `"300s"`, `"150ms"` or `"1m30s"`."""

Int64 = Annotated[int, Field(json_schema_extra={"format": "int64"})]
"""An integer that may not fit 32 bits; all others are published as int32."""

FreeObject = Annotated[JsonObject, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""An object whose fields Baton passes on without reading them all."""


def list_map(key: str) -> JsonObject:
    """Return the schema extra for a list whose items are told apart by a field, so that appliers merge them."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def validations(*rules: tuple[str, str]) -> JsonObject:
    """Return the schema extra for CEL rules, each with the message the API server answers when it does not hold."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


class ApiModel(BaseModel):
    """A part of an object that users write: camelCase outside, snake_case inside, immutable."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def document(self) -> JsonObject:
        """Return the JSON form with the names users write, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OwnerReference(ApiModel):
    """Who an object belongs to."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(ApiModel):
    """Kubernetes' object metadata."""

    name: str = ""
    generate_name: str = ""
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []
    finalizers: list[str] = []
    deletion_grace_period_seconds: int | None = None
    managed_fields: list[JsonObject] = []


class Condition(ApiModel):
    """One aspect of an object's state, as `kubectl wait --for=condition=TYPE` reads it."""

    type: str = Field(description="Name of the aspect, for example Available.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the condition holds.")
    reason: str = Field(default="", description="One CamelCase word that says why.")
    message: str = Field(
        default="", description="The same for people, with the field and the cure when it is an error."
    )
    observed_generation: Int64 | None = Field(
        default=None, description="The generation the condition was computed from."
    )
    last_transition_time: datetime | None = Field(default=None, description="When `status` last changed.")


class Kind(ApiModel):
    """A whole object."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @classmethod
    def read(cls, document: JsonObject, *, strict: bool = False) -> Self:
        """Validate a document as the API server would.

        `strict` is for files that no API server has seen: it also refuses fields the kind does not have, and values
        of another type that could be converted, such as `"1"` for 1.

        Raises:
            pydantic.ValidationError: a field is wrong; `problems_of` turns it into messages.

        """
        if strict:
            text = json.dumps(document, default=str)
            return cls.model_validate_json(text, strict=True, extra="forbid", by_alias=True, by_name=False)
        return cls.model_validate(document, extra="ignore", by_alias=True, by_name=False)


def field_path(location: Sequence[int | str]) -> str:
    """Return a field as users write it: `spec.template.roles[0].name`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".") or "document"


def fault_of(entry: ErrorDetails) -> str:
    """Say what is wrong with one field, without its name."""
    match entry["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is no field of this object"
        case "value_error":
            return entry["msg"].removeprefix("Value error, ")
        case _:
            value = entry["input"]
            got = f", not {value!r}" if isinstance(value, str | int | float) else ""
            return entry["msg"].replace("Input should", "should", 1) + got


def problems_of(error: ValidationError) -> list[str]:
    """Say for each fault of a refused document which field it is in and what is wrong with it."""
    return [f"{field_path(entry['loc'])}: {fault_of(entry)}" for entry in error.errors(include_url=False)]
