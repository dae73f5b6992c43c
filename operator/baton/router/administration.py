"""What people may ask a standalone router about its engines, in the words of vllm-ascend's example proxy.

Keeps no list itself: baton.router.standalone does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import orjson

from baton.api.endpoints import Phase
from baton.router.call import UpstreamError
from baton.router.errors import SHOWN, ApiError
from baton.router.paths import Action
from baton.router.standalone import EngineConflictError, StandaloneEngines
from baton.routing.engine_list import name_of, read_engine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from baton.api.router_config import RouterConfig, StaticEndpoints
    from baton.router.engine_client import EngineClient
    from baton.router.settings import RouterSettings
    from baton.routing.types import Endpoint


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer: status, and what becomes its JSON."""

    status: int
    content: dict[str, Any]


class Administration:
    """Answers for `engines`. `loads` returns the requests in flight by endpoint name."""

    def __init__(
        self, engines: StandaloneEngines, client: EngineClient, *, loads: Callable[[], Awaitable[Mapping[str, int]]]
    ) -> None:
        self.engines = engines
        self._client = client
        self._loads = loads

    @classmethod
    def of(
        cls,
        settings: RouterSettings,
        client: EngineClient,
        *,
        publish: Callable[[RouterConfig], None],
        loads: Callable[[], Awaitable[Mapping[str, int]]],
    ) -> Self:
        """Return what answers for the engines of the settings, once `publish` has taken the first document."""
        engines = StandaloneEngines(
            settings.engines, connector=settings.connector, models=settings.models, client=client, publish=publish
        )
        engines.start()
        return cls(engines, client, loads=loads)

    async def act(self, action: Action, body: bytes) -> Outcome | ApiError:
        """Do what is asked; an error leaves everything as it was."""
        match action:
            case Action.ADD_ENGINES:
                return await self._change(body, self.engines.add, "Added; each serves from its first answer on: ")
            case Action.REMOVE_ENGINES:
                return await self._change(body, self.engines.remove, "Removed; what runs there goes on: ")
            case Action.RESET_PREFIX_CACHES:
                return await self._reset_prefix_caches()
            case Action.COUNT_ENGINES:
                return await self._count()
            case _:
                return Outcome(200, {"instances": self.engines.describe(await self._loads())})

    async def _change(
        self, body: bytes, change: Callable[[Sequence[StaticEndpoints]], None], message: str
    ) -> Outcome | ApiError:
        engines = _read(body, allowed=self.engines.phases)
        if isinstance(engines, ApiError):
            return engines
        try:
            change(engines)
        except EngineConflictError as error:
            return ApiError(409, "engine_conflict", f"{error}.", param="instances")
        content: dict[str, Any] = {"message": message + ", ".join(map(name_of, engines))}
        for phase in self.engines.phases:
            content[f"current_{phase}_instances"] = self.engines.names(phase)
        return Outcome(200, content | {"instances": self.engines.describe(await self._loads())})

    async def _count(self) -> Outcome:
        counts = {phase: len(self.engines.names(phase, is_serving=True)) for phase in self.engines.phases}
        described = self.engines.describe(await self._loads())
        requests = sum(engine["requests"] for engine in described if engine["type"] is not Phase.PREFILL)
        content: dict[str, Any] = {"status": "ok" if all(counts.values()) else "no engines"}
        content |= {f"{phase}_instances": count for phase, count in counts.items()}
        return Outcome(200 if all(counts.values()) else 503, content | {"request_num": requests})

    async def _reset_prefix_caches(self) -> Outcome:
        failed: list[str] = []
        async with asyncio.TaskGroup() as group:
            for endpoint in self.engines.endpoints():
                group.create_task(self._reset_prefix_cache(endpoint, failed))
        return Outcome(500 if failed else 200, {"success": not failed, "failed": sorted(failed)})

    async def _reset_prefix_cache(self, endpoint: Endpoint, failed: list[str]) -> None:
        try:
            answer = await self._client.ask("POST", "/reset_prefix_cache", endpoint)
        except UpstreamError:
            failed.append(endpoint.name)
        else:
            if answer.head.status != 200:
                failed.append(endpoint.name)


def _read(body: bytes, *, allowed: tuple[Phase, ...]) -> list[StaticEndpoints] | ApiError:
    """Read `{"type": "prefill", "instances": "host:port" or a list of them}`."""
    try:
        wish = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _refused(f"The body is not valid JSON: {error}.")
    if not isinstance(wish, dict):
        return _refused('The body must be a JSON object: {"type": …, "instances": …}.')
    kind = wish.get("type", allowed[0] if len(allowed) == 1 else None)
    if kind not in allowed:
        return _refused(f"The field 'type' must be {' or '.join(allowed)}, not {str(kind)[:SHOWN]!r}.", param="type")
    texts = wish.get("instances")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        return _refused("The field 'instances' must be HOST:PORT, or a list of them.", param="instances")
    try:
        return [read_engine(text, Phase(kind)) for text in texts]
    except ValueError as error:
        return _refused(f"{error}.", param="instances")


def _refused(message: str, *, param: str | None = None) -> ApiError:
    return ApiError(400, "invalid_request", message, param=param)
