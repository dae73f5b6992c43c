"""The engines of a router that was told them on its command line: which there are, which serve, how many come and go.

Changes the list and keeps the directory in step with it; baton.router.administration takes the wishes of people.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from baton.api.endpoints import Phase
from baton.router.call import UpstreamError
from baton.routing.endpoints import ranks_of
from baton.routing.engine_list import document_of, name_of
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from baton.api.router_config import RouterConfig, StaticEndpoints
    from baton.api.traffic import KVConnectorType
    from baton.router.engine_client import EngineClient
    from baton.routing.types import Endpoint

_logger = logging.getLogger(__name__)

_INTERVAL = 2.0
"""Seconds between two looks at engines that have not answered yet."""


class EngineState(StrEnum):
    """Where an engine is between coming and going."""

    WAITING = "waiting"
    """It has been added, and has not answered yet."""

    SERVING = "serving"
    DRAINING = "draining"
    """It has been removed: it gets no new requests, and those that run go on."""


class EngineConflictError(Exception):
    """An engine cannot be added or removed; the message says why."""


@dataclass(slots=True)
class _Member:
    engine: StaticEndpoints
    state: EngineState
    models: tuple[str, ...] | None = None
    problem: str = ""


class StandaloneEngines:
    """The engines by name. `publish` takes each document that the list amounts to, the first one with `start`."""

    def __init__(
        self,
        engines: Iterable[StaticEndpoints],
        *,
        connector: KVConnectorType,
        models: Sequence[str],
        client: EngineClient,
        publish: Callable[[RouterConfig], None],
        interval: float = _INTERVAL,
    ) -> None:
        """Route to these engines from the start, whether they answer or not; `models` empty means any."""
        self._connector = connector
        self._models = models
        self._client = client
        self._publish = publish
        self._interval = interval
        self._changed = asyncio.Event()
        self._members = {name_of(engine): _Member(engine, EngineState.SERVING) for engine in engines}
        is_aggregated = any(member.engine.phase is Phase.AGGREGATED for member in self._members.values())
        self.phases = (Phase.AGGREGATED,) if is_aggregated else (Phase.PREFILL, Phase.DECODE)
        """What the engines do, for good: whole requests, or their parts."""

    def start(self) -> None:
        """Publish the first document."""
        self._publish_all()

    async def follow(self) -> None:
        """Ask engines for their models until they answer, for ever; an added one serves from its first answer on."""
        while True:
            unknown = [member for member in self._members.values() if _is_unknown(member)]
            async with asyncio.TaskGroup() as group:
                for member in unknown:
                    group.create_task(self._look_at(member))
            if any(not _is_unknown(member) for member in unknown):
                self._publish_all()
            await self._pause()

    def add(self, engines: Sequence[StaticEndpoints]) -> None:
        """Have engines serve as soon as they answer; one that is here already stays as it is.

        Raises:
            EngineConflictError: an address has another role here; nothing is added then.

        """
        new = [engine for engine in engines if not self._is_here(engine)]
        self._refuse_conflicts(new)
        for engine in new:
            self._members[name_of(engine)] = _Member(engine, EngineState.WAITING)
            event(_logger, logging.INFO, "engine added", engine=name_of(engine), phase=engine.phase)
        self._changed.set()

    def remove(self, engines: Sequence[StaticEndpoints]) -> None:
        """Give engines no more requests, and forget each once it has none.

        Raises:
            EngineConflictError: one is not here; nothing is removed then.

        """
        for engine in engines:
            if name_of(engine) not in self.names(engine.phase):
                names = ", ".join(self.names(engine.phase)) or "none"
                raise EngineConflictError(
                    f"{name_of(engine)} is no {engine.phase} engine of this router; there are: {names}"
                )
        for engine in engines:
            self._members[name_of(engine)].state = EngineState.DRAINING
            event(_logger, logging.INFO, "engine removed, running requests go on", engine=name_of(engine))
        self._publish_all()

    def names(self, phase: Phase, *, is_serving: bool = False) -> list[str]:
        """Return the engines of a phase that have not been removed, or of these only the ones that serve."""
        left_out = {EngineState.DRAINING, EngineState.WAITING} if is_serving else {EngineState.DRAINING}
        return [
            name
            for name, member in self._members.items()
            if member.engine.phase is phase and member.state not in left_out
        ]

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints that serve."""
        return [endpoint for member in self._serving() for endpoint in ranks_of(member.engine)]

    def describe(self, loads: Mapping[str, int]) -> list[dict[str, Any]]:
        """Return each engine for people. `loads` are the requests in flight by endpoint name.

        A removed engine is described, and remembered, as long as it has requests.
        """
        described = []
        for name, member in list(self._members.items()):
            requests = sum(loads.get(endpoint.name, 0) for endpoint in ranks_of(member.engine))
            if member.state is EngineState.DRAINING and not requests:
                del self._members[name]
                continue
            found: dict[str, Any] = {"instance": name, "type": member.engine.phase, "state": member.state}
            found |= {"requests": requests, "models": member.models or ()}
            described.append(found | ({"problem": member.problem} if member.problem else {}))
        return described

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    async def _look_at(self, member: _Member) -> None:
        first = ranks_of(member.engine)[0]
        try:
            answer = await self._client.ask("GET", "/v1/models", first)
        except UpstreamError as error:
            member.problem = str(error)
            return
        member.problem = ""
        member.models = _model_names(answer.body) if answer.head.status == 200 else ()
        if member.state is EngineState.WAITING:
            member.state = EngineState.SERVING

    def _is_here(self, engine: StaticEndpoints) -> bool:
        known = self._members.get(name_of(engine))
        return known is not None and known.engine == engine and known.state is not EngineState.DRAINING

    def _refuse_conflicts(self, engines: Sequence[StaticEndpoints]) -> None:
        here = [member.engine for member in self._members.values() if member.state is not EngineState.DRAINING]
        taken = {endpoint.name: engine for engine in here for endpoint in ranks_of(engine)}
        for engine in engines:
            if engine.phase not in self.phases:
                wanted = " and ".join(self.phases)
                raise EngineConflictError(f"{name_of(engine)} is {engine.phase}, but the engines here are {wanted}")
            for endpoint in ranks_of(engine):
                other = taken.setdefault(endpoint.name, engine)
                if other is not engine:
                    reason = f"{endpoint.name} is here already, as {other.phase} {name_of(other)}"
                    raise EngineConflictError(f"{reason}; remove that first")

    def _serving(self) -> list[_Member]:
        return [member for member in self._members.values() if member.state is EngineState.SERVING]

    def _publish_all(self) -> None:
        serving = self._serving()
        discovered = {model for member in serving for model in member.models or ()}
        engines = [member.engine for member in serving]
        self._publish(document_of(engines, connector=self._connector, models=self._models, discovered=discovered))


def _is_unknown(member: _Member) -> bool:
    return member.models is None and member.state is not EngineState.DRAINING


def _model_names(body: bytes) -> tuple[str, ...]:
    try:
        return tuple(model["id"] for model in orjson.loads(body)["data"] if isinstance(model["id"], str))
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return ()
