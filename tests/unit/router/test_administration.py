from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from baton.api.endpoints import Phase
from baton.api.traffic import KVConnectorType
from baton.router.administration import Administration
from baton.router.engine_client import EngineClient
from baton.router.errors import ApiError
from baton.router.paths import Action
from baton.router.standalone import StandaloneEngines
from baton.routing.engine_list import read_engine

if TYPE_CHECKING:
    from baton.api.router_config import RouterConfig


class Desk:
    """An administration whose engines nobody looks at, and the documents it published."""

    def __init__(self, *engines: tuple[Phase, str]) -> None:
        self.documents: list[RouterConfig] = []
        self.loads: dict[str, int] = {}
        client = EngineClient(tls=None)
        self.engines = StandaloneEngines(
            [read_engine(text, phase) for phase, text in engines],
            connector=KVConnectorType.NIXL,
            models=(),
            client=client,
            publish=self.documents.append,
        )
        self.engines.start()
        self.administration = Administration(self.engines, client, loads=self._loads)

    async def _loads(self) -> dict[str, int]:
        return self.loads

    async def ask(self, action: Action, body: Any = None) -> tuple[int, Any]:
        result = await self.administration.act(action, orjson.dumps(body) if body is not None else b"")
        if isinstance(result, ApiError):
            return result.status, result.message
        return result.status, orjson.loads(orjson.dumps(result.content))

    async def states(self) -> dict[str, str]:
        _, content = await self.ask(Action.ENGINES)
        return {engine["instance"]: engine["state"] for engine in content["instances"]}

    def published(self) -> list[tuple[str, int]]:
        [backend] = self.documents[-1].backends
        return [(engine.address, engine.port) for engine in backend.endpoints]


def pair() -> Desk:
    return Desk((Phase.PREFILL, "p:1"), (Phase.DECODE, "d:1-4"))


@pytest.mark.parametrize(
    ("action", "body", "status", "words"),
    [
        (Action.ADD_ENGINES, [], 400, "JSON object"),
        (Action.ADD_ENGINES, None, 400, "not valid JSON"),
        (Action.ADD_ENGINES, {"type": "x", "instances": "h:1"}, 400, "must be prefill or decode, not 'x'"),
        (Action.ADD_ENGINES, {"instances": "h:1"}, 400, "must be prefill or decode"),
        (Action.ADD_ENGINES, {"type": ["x"], "instances": "h:1"}, 400, "must be prefill or decode"),
        (Action.ADD_ENGINES, {"type": "prefill"}, 400, "'instances' must be HOST:PORT"),
        (Action.ADD_ENGINES, {"type": "prefill", "instances": ["h"]}, 400, "'h' has no port"),
        (Action.ADD_ENGINES, {"type": "prefill", "instances": ["[::1]:5", "h:1-70000"]}, 400, "up to 65535"),
        (
            Action.ADD_ENGINES,
            {"type": "decode", "instances": ["h:5", "p:1"]},
            409,
            "p:1 is here already, as prefill p:1",
        ),
        (Action.ADD_ENGINES, {"type": "decode", "instances": "d:3"}, 409, "d:3 is here already, as decode d:1-4"),
        (Action.ADD_ENGINES, {"type": "decode", "instances": ["h:1-2", "h:2-3"]}, 409, "h:2 is here already"),
        (Action.REMOVE_ENGINES, {"type": "decode", "instances": ["d:1-4", "h:1"]}, 409, "h:1 is no decode engine"),
        (Action.REMOVE_ENGINES, {"type": "decode", "instances": "p:1"}, 409, "there are: d:1-4"),
    ],
)
async def test_a_wrong_wish_changes_nothing(action: Action, body: Any, status: int, words: str) -> None:
    desk = pair()
    answer = await desk.ask(action, body)

    assert answer[0] == status
    assert words in answer[1]
    assert await desk.states() == {"p:1": "serving", "d:1-4": "serving"}
    assert len(desk.documents) == 1


async def test_an_added_engine_waits_and_adding_it_twice_changes_nothing() -> None:
    desk = pair()
    for _ in range(2):
        assert (await desk.ask(Action.ADD_ENGINES, {"type": "prefill", "instances": ["http://q:1"]}))[0] == 200
    await desk.ask(Action.ADD_ENGINES, {"type": "prefill", "instances": ["p:1"]})

    assert await desk.states() == {"p:1": "serving", "d:1-4": "serving", "q:1": "waiting"}


async def test_a_removed_engine_leaves_the_document_at_once_and_the_list_when_it_is_idle() -> None:
    desk = pair()
    desk.loads = {"d:2": 1}
    await desk.ask(Action.REMOVE_ENGINES, {"type": "decode", "instances": "d:1-4"})

    assert desk.published() == [("p", 1)]
    assert (await desk.states())["d:1-4"] == "draining"
    assert (await desk.ask(Action.COUNT_ENGINES))[0] == 503
    desk.loads = {}
    assert await desk.states() == {"p:1": "serving"}


async def test_a_removed_engine_may_come_back_in_another_role() -> None:
    desk = pair()
    await desk.ask(Action.REMOVE_ENGINES, {"type": "decode", "instances": "d:1-4"})
    status, content = await desk.ask(Action.ADD_ENGINES, {"type": "prefill", "instances": "d:1-4"})

    assert (status, content["current_prefill_instances"]) == (200, ["p:1", "d:1-4"])
    assert (await desk.states())["d:1-4"] == "waiting"


async def test_a_router_of_whole_engines_needs_no_type() -> None:
    desk = Desk((Phase.AGGREGATED, "a:1"))
    assert (await desk.ask(Action.ADD_ENGINES, {"instances": "b:1"}))[0] == 200
    assert (await desk.ask(Action.REMOVE_ENGINES, {"instances": "a:1"}))[0] == 200
    assert (await desk.ask(Action.ADD_ENGINES, {"type": "prefill", "instances": "c:1"}))[0] == 400
    assert await desk.states() == {"b:1": "waiting"}


async def test_requests_are_counted_once() -> None:
    desk = pair()
    desk.loads = {"p:1": 2, "d:1": 1, "d:3": 2}
    assert await desk.ask(Action.COUNT_ENGINES) == (
        200,
        {"status": "ok", "prefill_instances": 1, "decode_instances": 1, "request_num": 3},
    )
