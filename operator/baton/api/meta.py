"""What all kinds share: the base model, object metadata, conditions and the scalar types of their fields.

Knows no kind and talks to nobody; schemas are made in `baton.api.crd`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

JsonObject = dict[str, Any]

IntOrPercent = Annotated[
    int | str,
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]
"""A count, or a percentage such as `"25%"`."""

Duration = Annotated[str, Field(pattern=r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$")]
"""A Go duration such as `"300s"`, `"150ms"` or `"1m30s"`."""

FreeObject = Annotated[JsonObject, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""An object whose fields Baton passes on without reading them all."""


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


class ObjectMeta(ApiModel):
    """The part of Kubernetes' object metadata that decisions need."""

    name: str = ""
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []


class Condition(ApiModel):
    """One aspect of an object's state, as `kubectl wait --for=condition=TYPE` reads it."""

    type: str = Field(description="Name of the aspect, for example Available.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the condition holds.")
    reason: str = Field(default="", description="One CamelCase word that says why.")
    message: str = Field(
        default="", description="The same for people, with the field and the cure when it is an error."
    )
    observed_generation: int | None = Field(default=None, description="The generation the condition was computed from.")
    last_transition_time: datetime | None = Field(default=None, description="When `status` last changed.")


class Kind(ApiModel):
    """A whole object."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @classmethod
    def read(cls, document: JsonObject, *, strict: bool = False) -> Self:
        """Validate a document; `strict` also refuses fields the kind does not have.

        Raises:
            pydantic.ValidationError: a field is wrong; `problems_of` turns it into messages.

        """
        return cls.model_validate(document, extra="forbid" if strict else "ignore")


def problems_of(error: ValidationError) -> list[str]:
    """Say for each fault of a refused document which field it is in and what is wrong with it."""
    return [
        f"{'.'.join(str(part) for part in entry['loc']) or 'document'}: {entry['msg']}"
        for entry in error.errors(include_url=False, include_context=False)
    ]
