"""The API server's verbs for any resource: objects as dictionaries, errors by what the caller can do.

Keeps no copies (baton.kube.reflector does) and decides nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

import orjson

from baton.api.labels import FIELD_MANAGER
from baton.kube.access import Access, open_access
from baton.kube.clock import SystemClock
from baton.kube.errors import Transient
from baton.kube.kubeconfig import kubeconfig_access
from baton.kube.lines import LineSplitter
from baton.kube.transport import Call, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from baton.kube.types import JsonObject, Resource

CONNECTIONS = 64
"""How many calls run at a time by default: enough to be bounded by the server's flow control, not by this."""
TIMEOUT = 30.0
"""Time limit of one try of a call by default, in seconds."""
PAGE_SIZE = 500
"""Objects a page of a list by default."""

_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_MERGE = "application/merge-patch+json"


class Client:
    """A session with one API server; use it in an `async with` block.

    Every call has a time limit for each try, obeys the server's flow control, and raises the errors of
    baton.kube.errors. More than `connections` calls wait for their turn, watches aside. While `may_write` says no,
    calls that change something raise Fenced.
    """

    def __init__(
        self,
        access: Access,
        *,
        connections: int = CONNECTIONS,
        timeout: float = TIMEOUT,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._transport = Transport(access, connections=connections, may_write=may_write)
        self._timeout = timeout
        self.namespace = access.namespace
        """The namespace that is meant where none is named."""

    @classmethod
    async def from_kubeconfig(
        cls,
        path: str | None,
        context: str | None = None,
        *,
        connections: int = CONNECTIONS,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 # of each later call, not of this one
    ) -> Self:
        """Use a kubeconfig's credentials; without a path that of $KUBECONFIG or ~/.kube/config."""
        access = await kubeconfig_access(path, context=context, clock=SystemClock())
        return cls(access, connections=connections, timeout=timeout)

    @classmethod
    def from_url(
        cls, url: str, token: str | None = None, *, connections: int = CONNECTIONS, timeout: float = TIMEOUT
    ) -> Self:
        """Use a server at this URL, for development and tests."""
        return cls(open_access(url, token), connections=connections, timeout=timeout)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> JsonObject:
        """Read one object."""
        return await self._send("get", "GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int | None = None,
        continue_token: str | None = None,
    ) -> JsonObject:
        """Read a list, or one page of it. Its items have neither `kind` nor `apiVersion`.

        Without a namespace it spans all of them. A page that is not the last has `metadata.continue`.
        """
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=None if limit is None else str(limit),
            **{"continue": continue_token},
        )
        page = await self._send("list", "GET", resource.path(namespace), query=query)
        if "items" not in page:
            raise Transient(200, "NotAList", f"GET {resource.path(namespace)}: the answer is not a list")
        page["items"] = page["items"] or []  # Go writes null for some empty lists
        return page

    async def list_pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> AsyncGenerator[JsonObject, None]:
        """Read a list page by page; all pages show one moment. Raises Gone when the caller is too slow for that."""
        token: str | None = None
        while True:
            page = await self.list(
                resource,
                namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                limit=limit,
                continue_token=token,
            )
            yield page
            token = page["metadata"].get("continue")
            if not token:
                return

    async def create(self, resource: Resource, body: JsonObject) -> JsonObject:
        """Create an object in the namespace its metadata names. Raises AlreadyExists."""
        path = resource.path(body["metadata"].get("namespace"))
        return await self._send(
            "create", "POST", path, query={"fieldManager": FIELD_MANAGER}, body=_typed(resource, body)
        )

    async def apply(
        self, resource: Resource, body: JsonObject, *, subresource: str | None = None, force: bool = True
    ) -> JsonObject:
        """Apply an object server-side as `baton`, taking over the fields of others if forced. It creates, too."""
        metadata = body["metadata"]
        return await self._send(
            "apply",
            "PATCH",
            resource.path(metadata.get("namespace"), metadata["name"], subresource),
            query={"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"},
            body=_typed(resource, body),
            content_type=_APPLY,
        )

    async def patch(
        self, resource: Resource, namespace: str | None, name: str, patch: JsonObject, *, subresource: str | None = None
    ) -> JsonObject:
        """Merge this into an object: None removes a field, a list replaces the whole list.

        A `metadata.resourceVersion` in the patch makes it conditional: Conflict if the object is another version.
        """
        return await self._send(
            "patch",
            "PATCH",
            resource.path(namespace, name, subresource),
            query={"fieldManager": FIELD_MANAGER},
            body=patch,
            content_type=_MERGE,
        )

    async def patch_status(
        self, resource: Resource, namespace: str | None, name: str, status: JsonObject
    ) -> JsonObject:
        """Merge this into an object's status."""
        return await self.patch(resource, namespace, name, {"status": status}, subresource="status")

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        grace_period_seconds: int | None = None,
        propagation_policy: str | None = None,
    ) -> JsonObject:
        """Delete an object; Conflict if it has another uid. Repeating is harmless, but then it may be NotFound."""
        options: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation_policy is not None:
            options["propagationPolicy"] = propagation_policy
        return await self._send("delete", "DELETE", resource.path(namespace, name), body=options)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        server_timeout: int = 300,
        silence: float = 90.0,
    ) -> AsyncGenerator[JsonObject, None]:
        """Yield the events after this version as they come, bookmarks and ERROR events included.

        The server ends the stream after `server_timeout` seconds. More than `silence` seconds without a byte is a
        Transient for SILENCE: bookmarks come each minute, but only such as are newer than `resource_version`.
        Close the generator (contextlib.aclosing) to leave it early.
        """
        query = _query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            timeoutSeconds=str(server_timeout),
            labelSelector=label_selector,
            fieldSelector=field_selector,
        )
        call = Call("watch", "GET", resource.path(namespace), timeout=self._timeout, query=query)
        splitter = LineSplitter()
        async with self._transport.stream(call, silence=silence) as read:
            while chunk := await read():
                for line in splitter.feed(chunk):
                    yield _event(call, line)
                await asyncio.sleep(0)  # reading from a full buffer does not wait, and others want their turn

    async def _send(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        encoded = None if body is None else _encode(body)
        return await self._transport.send(
            Call(verb, method, path, timeout=self._timeout, query=query, body=encoded, content_type=content_type)
        )


_GO_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
"""Characters that Go's encoding/json escapes inside strings; outside of strings JSON has none of them."""


def _encode(body: JsonObject) -> bytes:
    """Write JSON as the API server writes it.

    It keeps some fields as bytes, and compares those that must not change, such as the data of a ControllerRevision,
    with what it wrote itself when an object is patched elsewhere.
    """
    encoded = orjson.dumps(body)
    for character, escape in _GO_ESCAPES:
        encoded = encoded.replace(character, escape)
    return encoded


def _event(call: Call, line: bytes) -> JsonObject:
    try:
        event: JsonObject = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Transient(200, "NotJson", f"{call}: a line of the watch is not JSON: {error}") from error
    return event


def _typed(resource: Resource, body: JsonObject) -> JsonObject:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body}


def _query(**parameters: str | None) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}
