"""A small Kubernetes API server over real HTTP on the loopback, which fails as it is told.

It knows no kinds: every collection path holds objects. It has pages, watches, bookmarks, merge patches and server-side
apply (as a merge), uid preconditions, label selectors of equality and existence, bearer tokens; no validation and no
admission.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator

JsonObject = dict[str, Any]
Selector = dict[str, "str | None"]
"""Labels by name; None: any value."""

_PATH = re.compile(
    r"(?P<root>/api/v1|/apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[^/]+))?"
)


CUT = 0
"""In place of a status: the connection breaks without an answer."""
STALL = -1
"""In place of a status: no answer comes."""


@dataclass(frozen=True)
class Seen:
    """A request that came in. Its verb is get, list, watch, create, patch or delete."""

    verb: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: JsonObject


@dataclass
class Fault:
    """An answer instead of the right one, or none: see CUT and STALL."""

    verb: str
    status: int
    times: int = 1
    skip: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass
class Watch:
    """An open watch: what it has still to send. None ends it, an exception cuts it."""

    collection: str
    namespace: str | None
    selector: Selector
    lines: asyncio.Queue[bytes | ConnectionError | None] = field(default_factory=asyncio.Queue)


class FakeApiServer:
    """Use it in an async with block; `url` is then its address."""

    def __init__(self) -> None:
        self.url = ""
        self.token: str | None = None
        self.requests: list[Seen] = []
        self.faults: list[Fault] = []
        self.watches: list[Watch] = []
        self.oldest_version = 0
        self._version = 100
        self._objects: dict[str, dict[tuple[str, str], JsonObject]] = {}
        self._history: list[tuple[int, str, str, JsonObject]] = []
        self._pages: dict[str, tuple[int, deque[JsonObject]]] = {}
        self._runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end_watches()
        await self._runner.cleanup()

    def count(self, verb: str) -> int:
        """Count the requests of this verb so far."""
        return sum(seen.verb == verb for seen in self.requests)

    def fail(
        self, verb: str, status: int, *, times: int = 1, skip: int = 0, body: bytes | None = None, **headers: str
    ) -> None:
        """Answer the next requests of this verb, after `skip` of them, with this status, or CUT or STALL."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(Fault(verb, status, times=times, skip=skip, headers=named, body=body))

    def put(self, collection: str, name: str, *, namespace: str = "ns", uid: str = "", **rest: Any) -> JsonObject:
        """Create or change an object behind the clients' backs, and tell the watches."""
        known = self._objects.setdefault(collection, {}).get((namespace, name))
        metadata = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", **rest.pop("metadata", {})}
        kind = "MODIFIED" if known is not None else "ADDED"
        return self._store(collection, kind, {"metadata": metadata, **rest})

    def remove(self, collection: str, name: str, *, namespace: str = "ns", is_told: bool = True) -> JsonObject:
        """Delete an object; untold, as if it happened while no watch was open and its event were forgotten."""
        self._version += 1
        found = self._objects[collection].pop((namespace, name))
        last = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self._version)}}
        if is_told:
            self._record(collection, "DELETED", last)
        return last

    def bookmark(self) -> str:
        """Send a bookmark to every watch; return its version."""
        self._version += 1
        version = str(self._version)
        self.say({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}})
        return version

    def say(self, event: JsonObject) -> None:
        """Send this line to every watch."""
        self.say_bytes(orjson.dumps(event) + b"\n")

    def say_bytes(self, data: bytes) -> None:
        """Send these bytes to every watch."""
        for watch in self.watches:
            watch.lines.put_nowait(data)

    def end_watches(self) -> None:
        """End every watch as its time limit would."""
        for watch in self.watches:
            watch.lines.put_nowait(None)

    def cut_watches(self) -> None:
        """Break the connection of every watch."""
        for watch in self.watches:
            watch.lines.put_nowait(ConnectionResetError())

    def forget_history(self) -> None:
        """Answer watches from versions before now with an ERROR event of status 410."""
        self.oldest_version = self._version

    def restore(self, collection: str, *, version: int) -> None:
        """Lose the collection and go back to this version, untold, as a restored database does."""
        self._version = version
        self._objects[collection] = {}
        self._history.clear()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        match = _PATH.fullmatch(request.path)
        if match is None:
            return _status(404, "NotFound", f"no such path: {request.path}")
        named = match["name"] is not None
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(request.method)
        verb = verb or ("get" if named else "watch" if request.query.get("watch") == "true" else "list")
        body = orjson.loads(await request.read() or b"{}")
        self.requests.append(Seen(verb, request.path_qs, dict(request.query), dict(request.headers), body))
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        if (fault := self._fault_for(verb)) is not None:
            return await _faulty(request, fault)
        collection = f"{match['root']}/{match['plural']}"
        key = match["namespace"] or "", match["name"] or ""
        match verb:
            case "list":
                return self._list(request, collection, match["namespace"])
            case "watch":
                return await self._watch(request, collection, match["namespace"])
            case "create":
                return self._create(collection, key[0], body)
            case _:
                return self._change(verb, collection, key, body, creates="apply" in request.content_type)

    def _fault_for(self, verb: str) -> Fault | None:
        for fault in self.faults:
            if fault.verb == verb and fault.skip > 0:
                fault.skip -= 1
            elif fault.verb == verb and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def _list(self, request: web.Request, collection: str, namespace: str | None) -> web.Response:
        token = request.query.get("continue")
        if token is not None and token not in self._pages:
            return _status(410, "Expired", "the continue token is too old")
        version, rest = (
            self._pages.pop(token)
            if token is not None
            else (self._version, deque(self._selected(request, collection, namespace)))
        )
        limit = int(request.query.get("limit", 10**9))
        items = [rest.popleft() for _ in range(min(limit, len(rest)))]
        metadata = {"resourceVersion": str(version)}
        if rest:
            metadata["continue"] = f"page-{len(self.requests)}"
            self._pages[metadata["continue"]] = version, rest
        return _json(200, {"kind": "List", "metadata": metadata, "items": items})

    def _selected(self, request: web.Request, collection: str, namespace: str | None) -> Iterator[JsonObject]:
        selector = _selector(request)
        for found in self._objects.get(collection, {}).values():
            if namespace in {None, found["metadata"]["namespace"]} and _is_selected(found, selector):
                yield found

    async def _watch(self, request: web.Request, collection: str, namespace: str | None) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        watch = Watch(collection, namespace, _selector(request))
        self.watches.append(watch)
        if since < self.oldest_version:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            watch.lines.put_nowait(orjson.dumps({"type": "ERROR", "object": gone}) + b"\n")
        for version, kind, changed, found in self._history:
            if version > since and changed == collection:
                self._send(watch, kind, found)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            while (line := await watch.lines.get()) is not None:
                if isinstance(line, ConnectionError):
                    assert request.transport is not None
                    request.transport.abort()
                    break
                await response.write(line)
        except ConnectionError:
            pass
        finally:
            self.watches.remove(watch)
        return response

    def _create(self, collection: str, namespace: str, body: JsonObject) -> web.Response:
        name = body["metadata"]["name"]
        if (namespace, name) in self._objects.get(collection, {}):
            return _status(409, "AlreadyExists", f"{name!r} already exists")
        metadata = {"uid": f"uid-{self._version}", **body["metadata"], "namespace": namespace}
        return _json(201, self._store(collection, "ADDED", {**body, "metadata": metadata}))

    def _change(
        self, verb: str, collection: str, key: tuple[str, str], body: JsonObject, *, creates: bool
    ) -> web.Response:
        found = self._objects.get(collection, {}).get(key)
        if found is None and creates:
            return self._create(collection, key[0], body)
        if found is None:
            return _status(404, "NotFound", f"{key[1]!r} not found")
        metadata = found["metadata"]
        if verb == "patch":
            expected = body.get("metadata", {}).get("resourceVersion", metadata["resourceVersion"])
            if expected != metadata["resourceVersion"]:
                return _status(409, "Conflict", "the object has been modified")
            found = self._store(collection, "MODIFIED", merged(found, body))
        elif verb == "delete":
            if body.get("preconditions", {}).get("uid", metadata["uid"]) != metadata["uid"]:
                return _status(409, "Conflict", "the UID in the precondition is another one")
            found = self.remove(collection, key[1], namespace=key[0])
        return _json(200, found)

    def _store(self, collection: str, kind: str, found: JsonObject) -> JsonObject:
        self._version += 1
        stored = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self._version)}}
        metadata = stored["metadata"]
        self._objects.setdefault(collection, {})[metadata["namespace"], metadata["name"]] = stored
        self._record(collection, kind, stored)
        return stored

    def _record(self, collection: str, kind: str, found: JsonObject) -> None:
        self._history.append((self._version, kind, collection, found))
        for watch in self.watches:
            if watch.collection == collection:
                self._send(watch, kind, found)

    def _send(self, watch: Watch, kind: str, found: JsonObject) -> None:
        if watch.namespace in {None, found["metadata"]["namespace"]} and _is_selected(found, watch.selector):
            watch.lines.put_nowait(orjson.dumps({"type": kind, "object": found}) + b"\n")


def _selector(request: web.Request) -> Selector:
    parts = (part.partition("=") for part in request.query.get("labelSelector", "").split(",") if part)
    return {name: value if sign else None for name, sign, value in parts}


def _is_selected(found: JsonObject, selector: Selector) -> bool:
    labels = found["metadata"].get("labels", {})
    return all(name in labels and value in {None, labels[name]} for name, value in selector.items())


def merged(old: Any, patch: Any) -> Any:
    """Return the old value with a merge patch in it."""
    if not isinstance(old, dict) or not isinstance(patch, dict):
        return patch
    kept = {name: value for name, value in old.items() if name not in patch}
    return kept | {name: merged(old.get(name), value) for name, value in patch.items() if value is not None}


async def _faulty(request: web.Request, fault: Fault) -> web.Response:
    if fault.status == STALL:
        await asyncio.Event().wait()
    if fault.status == CUT:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
    if fault.body is not None:
        return web.Response(status=fault.status, body=fault.body, headers=fault.headers)
    return _status(fault.status, "Fault", "as told", **fault.headers)


def _status(code: int, reason: str, message: str, **headers: str) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
    return _json(code, status, **headers)


def _json(code: int, body: JsonObject, **headers: str) -> web.Response:
    content = {"Content-Type": "application/json", **headers}
    return web.Response(status=code, body=orjson.dumps(body), headers=content)
