"""A router that was given its engines on the command line, and people who change them while it runs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from baton.api.endpoints import Phase
from functional.router_fixture import Engine, Message, Reply, generated, prefilled
from functional.router_process import Router, engines, eventually, is_true, name_of, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def serving(*models: str, script: Callable[[Message, Reply], Awaitable[None]] = generated) -> Any:
    """Return the script of an engine that also tells its models, and resets its prefix cache."""

    async def answer(request: Message, reply: Reply) -> None:
        if request.first.startswith("GET /v1/models "):
            await reply.json({"data": [{"id": name} for name in models]})
        elif request.first.startswith("POST /reset_prefix_cache "):
            await reply.json({})
        else:
            await script(request, reply)

    return answer


def prefill() -> Engine:
    return Engine("p", Phase.PREFILL, serving("m", script=prefilled))


def decode() -> Engine:
    return Engine("d", Phase.DECODE, serving("m", "lora"))


def url(engine: Engine) -> str:
    return f"http://{name_of(engine)}"


async def states(app: Router) -> dict[str, str]:
    _, content = await app.administer("/instances")
    return {engine["instance"]: engine["state"] for engine in content["instances"]}


async def test_prefill_and_decode_are_paired_without_any_file() -> None:
    first, second = prefill(), decode()
    async with (
        engines(first, second),
        running("--prefill", url(first), "--decode", name_of(second), "--connector", "mooncake") as app,
    ):
        assert await app.ask("any name") == (200, name_of(first), name_of(second))
        await eventually(app.models, ["lora", "m"])
        assert await app.status("/readyz", of_admin=True) == 200
        assert await app.administer("/healthcheck") == (
            200,
            {"status": "ok", "prefill_instances": 1, "decode_instances": 1, "request_num": 0},
        )


async def test_a_given_model_is_the_only_one() -> None:
    engine = Engine("a", Phase.AGGREGATED, serving("m", "other"))
    async with engines(engine), running("--url", url(engine), "--model", "m") as app:
        assert await app.models() == ["m"]
        assert await app.ask("m") == (200, None, name_of(engine))
        assert (await app.ask("other"))[0] == 404


async def test_an_added_engine_serves_once_it_answers_and_a_removed_one_no_more() -> None:
    first, second, later = prefill(), decode(), decode()
    is_up = asyncio.Event()
    usual = later.script

    async def not_yet(request: Message, reply: Reply) -> None:
        if is_up.is_set():
            await usual(request, reply)
        else:
            await reply.json({}, status=503)

    later.script = not_yet
    async with (
        engines(first, second, later),
        running("--prefill", url(first), "--decode", url(second)) as app,
    ):
        status, content = await app.administer("/instances/add", {"type": "decode", "instances": [name_of(later)]})
        assert (status, content["current_decode_instances"]) == (200, [name_of(second), name_of(later)])
        await eventually(lambda: is_true(later.requests), True)
        assert (await states(app))[name_of(later)] == "waiting"

        is_up.set()
        await eventually(partial(states, app), dict.fromkeys(map(name_of, (first, second, later)), "serving"))
        status, _ = await app.administer("/instances/remove", {"type": "decode", "instances": name_of(second)})
        assert status == 200
        assert await app.ask() == (200, name_of(first), name_of(later))
        assert list(await states(app)) == [name_of(first), name_of(later)]


async def test_what_runs_at_a_removed_engine_goes_on() -> None:
    is_released = asyncio.Event()

    async def waits(request: Message, reply: Reply) -> None:
        await is_released.wait()
        await generated(request, reply)

    slow = Engine("a", Phase.AGGREGATED, serving("m", script=waits))
    async with engines(slow), running("--url", url(slow)) as app, asyncio.TaskGroup() as group:
        asked = group.create_task(app.ask())
        await eventually(lambda: is_true(any(request.body for request in slow.requests)), True)
        await app.administer("/instances/remove", {"instances": name_of(slow)})

        assert await states(app) == {name_of(slow): "draining"}
        assert (await app.administer("/healthcheck"))[0] == 503
        assert (await app.ask())[0] == 503
        is_released.set()
        assert (await asked)[0] == 200
        await eventually(partial(states, app), {})


async def test_an_engine_can_take_the_other_role() -> None:
    first, second = prefill(), decode()
    other = Engine("x", Phase.DECODE, serving("m", script=prefilled))
    async with (
        engines(first, second, other),
        running("--prefill", url(first), "--decode", f"{url(second)},{url(other)}") as app,
    ):
        await app.administer("/instances/remove", {"type": "decode", "instances": [name_of(other)]})
        await app.administer("/instances/add", {"type": "prefill", "instances": [name_of(other)]})
        await app.administer("/instances/remove", {"type": "prefill", "instances": [name_of(first)]})
        await eventually(app.ask, (200, name_of(other), name_of(second)))


async def test_prefix_caches_are_reset_everywhere_and_failures_named() -> None:
    first, second = prefill(), Engine("d", Phase.DECODE, generated)

    async def fails(request: Message, reply: Reply) -> None:
        await reply.json({}, status=500)

    async with engines(first, second), running("--prefill", url(first), "--decode", url(second)) as app:
        second.script = serving("m")
        assert await app.administer("/reset_prefix_cache", {}) == (200, {"success": True, "failed": []})
        second.script = fails
        assert await app.administer("/reset_prefix_cache", {}) == (500, {"success": False, "failed": [name_of(second)]})


async def test_clients_may_not_change_engines() -> None:
    engine = Engine("a", Phase.AGGREGATED, serving("m"))
    async with engines(engine), running("--url", url(engine)) as app:
        async with app.session.post(f"{app.url}/instances/add", json={"instances": "h:1"}) as response:
            assert response.status == 404
            assert "admin port" in (await response.json())["error"]["message"]
        assert await app.status("/healthcheck") == 200
