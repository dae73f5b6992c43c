"""Values that every call to the Kubernetes API is made of. Sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

JsonObject = dict[str, Any]

Key = tuple[str, str]
"""Namespace and name of an object. The namespace of a cluster-wide object is the empty string."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object as the API server names it. The group of the core kinds is the empty string."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects, such as `apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL's path of one object, or of the collection when there is no name.

        A namespaced collection without a namespace spans all namespaces. Raises ValueError where the path could
        only reach another object than the caller meant.
        """
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", _segment(namespace, what="namespace")]
        elif self.namespaced and name is not None:
            raise ValueError(f"{self.kind} {name!r} needs a namespace")
        parts.append(self.plural)
        if name is not None:
            parts.append(_segment(name, what="name"))
        if subresource is not None:
            parts.append(subresource)
        return "/" + "/".join(parts)


def _segment(text: str, *, what: str) -> str:
    if text in {"", ".", ".."}:
        raise ValueError(f"{text!r} is not a {what}")
    return quote(text, safe=":")


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """Names one object for events and logs. The namespace of a cluster-wide object is the empty string."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, resource: Resource, found: JsonObject) -> Self:
        """Build the reference to an object of this resource as the API server returned it."""
        metadata = found["metadata"]
        return cls(
            api_version=resource.api_version,
            kind=resource.kind,
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
            uid=metadata["uid"],
        )


def key_of(found: JsonObject) -> Key:
    """Return namespace and name of an object as the API server returned it."""
    metadata = found["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
