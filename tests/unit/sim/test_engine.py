from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from baton.sim.engine import Engine, EngineIdentity
from baton.sim.generation import FinishReason, Generation
from baton.sim.kv import KVError, KVErrorReason
from baton.sim.requests import Endpoint, GenerationRequest, RequestError
from baton.sim.settings import SimSettings
from baton.sim.tokens import detokenize, tokenize
from baton.sim.transfer import Demand, Kind, TransferSide

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.sim.layerwise import Push, Target
    from baton.sim.rooms import Meeting

# 12 tokens: with an answer of 8 they fill 5 blocks of 4.
PROMPT = tokenize(" river" * 8 + " and so.")


class Engines:
    """A prefill and a decode engine that reach each other without sockets."""

    def __init__(
        self, prefill: TransferSide | None = None, decode: TransferSide | None = None, **settings: Any
    ) -> None:
        self.settings = SimSettings(**({"block_size": 4} | settings))
        self.prefill, self.decode = self._make("127.64.0.1", prefill), self._make("127.64.0.2", decode)
        self.gate = asyncio.Event()
        self.gate.set()

    def _make(self, address: str, side: TransferSide | None) -> Engine:
        return Engine(EngineIdentity(address, 7100), self.settings, peers=self, side=side)

    async def pull(self, demand: Demand) -> None:
        await self.gate.wait()
        {"127.64.0.1": self.prefill, "127.64.0.2": self.decode}[demand.source.host].hand_over(demand)

    async def call_back(self, url: str, body: bytes) -> None:
        raise AssertionError(url)

    async def push(self, target: Target, push: Push) -> None:
        raise AssertionError(push)

    async def knock(self, meeting: Meeting, fingerprint: str) -> None:
        raise AssertionError(meeting)


def side(name: str, address: str, **facts: Any) -> TransferSide:
    return TransferSide(engine_id=name, host=address, port=30000, **facts)


def ask(prompt: list[int] = PROMPT, *, max_tokens: int | None = 8, transfer: object = None) -> GenerationRequest:
    return GenerationRequest(
        endpoint=Endpoint.CHAT,
        model="m",
        prompt=prompt,
        max_tokens=max_tokens,
        min_tokens=1,
        kv_transfer_params=transfer,
    )


def ask_prefill(prompt: list[int] = PROMPT) -> GenerationRequest:
    return ask(prompt, max_tokens=1, transfer={"do_remote_decode": True})


async def run(engine: Engine, request: GenerationRequest) -> Generation:
    with engine.admit(request, engine.name_answer(request.endpoint, "a")) as generation:
        await engine.start(generation)
        while generation.finish_reason is None:
            await engine.step(generation)
    return generation


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 # an engine announces nothing to wait for
            await asyncio.sleep(0.001)


async def wait_for_load(engine: Engine, *, running: int, waiting: int) -> None:
    await wait_until(lambda: (engine.running, engine.waiting) == (running, waiting))


async def cancel(task: asyncio.Task[Generation]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_prefill_and_decode_give_the_aggregated_answer() -> None:
    engines = Engines()
    aggregated = await run(engines.decode, ask())
    prefill = await run(engines.prefill, ask_prefill())
    assert prefill.kv_transfer_params is not None
    assert engines.prefill.kv.held_blocks == len(prefill.kv_transfer_params["remote_block_ids"][0]) > 1
    decode = await run(engines.decode, ask(transfer=prefill.kv_transfer_params))
    assert decode.tokens == aggregated.tokens
    assert (engines.prefill.kv.used, engines.prefill.kv.pulled) == (0, 1)
    assert engines.decode.kv.used == 0
    assert engines.decode.counters.requests == {Kind.DECODE: 1, Kind.AGGREGATED: 1}
    assert engines.prefill.counters.requests == {Kind.PREFILL: 1}


async def test_an_answer_cut_on_one_engine_goes_on_exactly_on_another() -> None:
    engines = Engines()
    whole = await run(engines.prefill, ask(max_tokens=None))
    begun = whole.tokens[:7]
    by_ids = await run(engines.decode, ask(PROMPT + begun, max_tokens=None))
    assert begun + by_ids.tokens == whole.tokens
    by_text = await run(engines.decode, ask(tokenize(detokenize(PROMPT + begun)), max_tokens=None))
    assert by_text.tokens == by_ids.tokens


async def test_a_prefill_that_ends_by_itself_holds_nothing() -> None:
    engines = Engines(eos_rate=1.0)
    request = GenerationRequest(
        endpoint=Endpoint.CHAT,
        model="m",
        prompt=PROMPT,
        max_tokens=1,
        kv_transfer_params={"do_remote_decode": True},
    )
    prefill = await run(engines.prefill, request)
    assert prefill.finish_reason is FinishReason.STOP
    assert prefill.kv_transfer_params is None
    assert engines.prefill.kv.used == 0
    assert (await run(engines.prefill, ask_prefill())).kv_transfer_params is not None


@pytest.mark.parametrize(
    ("wrong", "prompt", "reason"),
    [
        ({"remote_request_id": "chatcmpl-x"}, PROMPT, KVErrorReason.UNKNOWN),
        ({"remote_engine_id": "x"}, PROMPT, KVErrorReason.UNKNOWN),
        ({"remote_host": "127.64.0.2"}, PROMPT, KVErrorReason.UNKNOWN),
        ({"remote_block_ids": [[99]]}, PROMPT, KVErrorReason.MISMATCH),
        ({}, PROMPT + PROMPT, KVErrorReason.MISMATCH),
    ],
)
async def test_kv_that_is_not_the_decodes_fails_it(
    wrong: dict[str, Any], prompt: list[int], reason: KVErrorReason
) -> None:
    engines = Engines()
    held = (await run(engines.prefill, ask_prefill())).kv_transfer_params
    assert held is not None
    with pytest.raises(KVError) as failure:
        await run(engines.decode, ask(prompt, transfer=held | wrong))
    assert failure.value.reason is reason
    assert engines.decode.counters.kv_errors == {reason: 1}
    assert engines.decode.counters.finished == {FinishReason.ERROR: 1}
    assert engines.decode.kv.used == 0
    assert len(engines.prefill.kv.held) == 1


async def test_kv_is_used_once() -> None:
    engines = Engines()
    held = (await run(engines.prefill, ask_prefill())).kv_transfer_params
    await run(engines.decode, ask(transfer=held))
    with pytest.raises(KVError, match="each decode needs a prefill of its own"):
        await run(engines.decode, ask(transfer=held))
    assert engines.decode.counters.kv_errors == {KVErrorReason.REUSED: 1}


async def test_sides_that_were_started_with_other_sizes_do_not_hand_over() -> None:
    engines = Engines(
        side("p", "127.64.0.1", terms={"decode.dp_size": 16}), side("d", "127.64.0.2", terms={"decode.dp_size": 8})
    )
    held = (await run(engines.prefill, ask_prefill())).kv_transfer_params
    with pytest.raises(KVError, match=r"decode\.dp_size is 16 at the prefill and 8 at the decode"):
        await run(engines.decode, ask(transfer=held))
    assert engines.decode.counters.kv_errors == {KVErrorReason.MISMATCH: 1}
    assert len(engines.prefill.kv.held) == 1


async def test_an_engine_keeps_to_its_role() -> None:
    engines = Engines(side("p", "127.64.0.1", is_consumer=False), side("d", "127.64.0.2", is_producer=False))
    held = (await run(engines.prefill, ask_prefill())).kv_transfer_params
    with pytest.raises(KVError, match="the decode of a request came to an engine that is no kv_consumer"):
        await run(engines.prefill, ask(transfer=held))
    with pytest.raises(KVError, match="the prefill of a request came to an engine that is no kv_producer"):
        await run(engines.decode, ask_prefill())
    assert engines.decode.counters.kv_errors == {KVErrorReason.ROLE: 1}
    assert (await run(engines.decode, ask(transfer=held))).finish_reason is FinishReason.LENGTH


async def test_a_decode_may_compute_what_it_cannot_pull() -> None:
    engines = Engines(None, side("d", "127.64.0.2", recomputes=True))
    held = (await run(engines.prefill, ask_prefill())).kv_transfer_params
    assert held is not None
    decode = await run(engines.decode, ask(transfer=held | {"remote_request_id": "chatcmpl-x"}))
    assert decode.tokens == (await run(engines.prefill, ask())).tokens
    assert engines.decode.counters.kv_errors == {KVErrorReason.UNKNOWN: 1}


async def test_an_engine_is_idle_when_no_request_is_left() -> None:
    engine = Engines(tokens_per_second=0.001).decode
    async with asyncio.timeout(5):
        await engine.wait_until_idle()
        task = asyncio.ensure_future(run(engine, ask()))
        await wait_for_load(engine, running=1, waiting=0)
        idle = asyncio.ensure_future(engine.wait_until_idle())
        await asyncio.sleep(0)
        assert not idle.done()
        await cancel(task)
        await idle


async def test_incomplete_parameters_are_counted_and_start_nothing() -> None:
    engines = Engines()
    with pytest.raises(KVError, match="remote_host"):
        await run(engines.decode, ask(transfer={"do_remote_prefill": True, "remote_port": 7100}))
    assert engines.decode.counters.kv_errors == {KVErrorReason.INVALID: 1}
    assert engines.decode.counters.requests == {}


async def test_unfetched_kv_expires_by_itself() -> None:
    engines = Engines(kv_timeout=0.005)
    held = (await run(engines.prefill, ask_prefill())).kv_transfer_params
    await run(engines.prefill, ask_prefill())
    await wait_until(lambda: engines.prefill.kv.expired == 2)
    assert engines.prefill.kv.used == 0
    with pytest.raises(KVError, match="expired"):
        await run(engines.decode, ask(transfer=held))


async def test_a_prefill_aborted_before_its_end_frees_at_once() -> None:
    engines = Engines(prefill_tokens_per_second=0.001)
    task = asyncio.ensure_future(run(engines.prefill, ask_prefill()))
    waiting = asyncio.ensure_future(run(engines.prefill, ask_prefill()))
    await wait_for_load(engines.prefill, running=1, waiting=1)
    assert engines.prefill.kv.used > 0
    await cancel(task)
    await wait_until(lambda: engines.prefill.running == 1)
    await cancel(waiting)
    assert (engines.prefill.kv.used, engines.prefill.kv.held) == (0, ())
    assert engines.prefill.counters.finished == {FinishReason.ABORT: 2}


async def test_a_decode_aborted_while_it_pulls_completes_the_pull() -> None:
    engines = Engines()
    held = (await run(engines.prefill, ask_prefill())).kv_transfer_params
    engines.gate.clear()
    task = asyncio.ensure_future(run(engines.decode, ask(transfer=held)))
    await wait_until(lambda: engines.decode.waiting == 1)
    await cancel(task)
    assert (engines.decode.kv.used, engines.prefill.kv.pulled) == (0, 0)
    engines.gate.set()
    await wait_until(lambda: engines.prefill.kv.pulled == 1)
    assert engines.prefill.kv.used == 0
    assert engines.decode.counters.finished == {FinishReason.ABORT: 1}


async def test_closing_stops_pulls_and_expiry() -> None:
    engines = Engines(kv_timeout=0.001)
    held = (await run(engines.prefill, ask_prefill())).kv_transfer_params
    engines.gate.clear()
    task = asyncio.ensure_future(run(engines.decode, ask(transfer=held)))
    await wait_until(lambda: engines.decode.waiting == 1)
    engines.prefill.kv.expire(0.0)
    await engines.decode.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engines.prefill.close()


async def test_requests_wait_for_blocks_in_their_order() -> None:
    engine = Engines(kv_blocks=5, tokens_per_second=0.001).decode
    tasks = []
    for waiting in range(3):
        tasks.append(asyncio.ensure_future(run(engine, ask())))
        await wait_for_load(engine, running=1, waiting=waiting)
    assert engine.kv.used == 5
    await cancel(tasks[0])
    await wait_for_load(engine, running=1, waiting=1)
    # Whoever gives up in the queue leaves no blocks behind.
    await cancel(tasks[2])
    assert (engine.running, engine.waiting, engine.kv.used) == (1, 0, 5)
    await cancel(tasks[1])
    assert (engine.running, engine.kv.used) == (0, 0)


async def test_a_turn_that_comes_in_the_moment_of_giving_up_is_passed_on() -> None:
    engine = Engines(kv_blocks=5, tokens_per_second=0.001).decode
    first, second, third = (asyncio.ensure_future(run(engine, ask())) for _ in range(3))
    await wait_for_load(engine, running=1, waiting=2)
    first.cancel()
    first.add_done_callback(lambda _: second.cancel())
    await wait_until(lambda: second.done() and engine.running == 1)
    assert engine.kv.used == 5
    await cancel(third)
    assert engine.kv.used == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"max_model_len": 19}, "over the model's length of 19 tokens"), ({"kv_blocks": 4}, "needs 5 KV blocks")],
)
async def test_what_can_never_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    engine = Engines(**settings).decode
    with pytest.raises(RequestError, match=message):
        await run(engine, ask())
    assert engine.counters.requests == {}


async def test_an_answer_without_max_tokens_is_limited_by_the_models_length() -> None:
    engine = Engines(max_model_len=20).decode
    generation = await run(engine, ask(max_tokens=None))
    assert (generation.finish_reason, len(generation.tokens)) == (FinishReason.LENGTH, 8)


async def test_paced_requests_of_one_engine_step_together() -> None:
    engine = Engines(tokens_per_second=500).decode
    tokens: list[list[int]] = []

    async def watch() -> None:
        with engine.admit(ask(max_tokens=5), "chatcmpl-a") as generation:
            tokens.append(generation.tokens)
            await engine.start(generation)
            while generation.finish_reason is None:
                await engine.step(generation)
                assert max(map(len, tokens)) - min(map(len, tokens)) <= 1

    await asyncio.gather(watch(), watch(), watch())
    assert [len(drawn) for drawn in tokens] == [5, 5, 5]


async def test_counters_and_state_tell_what_was_done() -> None:
    engine = Engines().decode
    await run(engine, ask())
    assert engine.counters.prompt_tokens == len(PROMPT)
    assert engine.counters.generation_tokens == 8
    assert engine.counters.first_token.cumulate()[-1][1] == 1
    assert engine.counters.inter_token.cumulate()[-1][1] == 7
    assert engine.describe() == {
        "address": "127.64.0.2",
        "port": 7100,
        "requests": {"prefill": 0, "decode": 0, "aggregated": 1},
        "finished": {"length": 1},
        "running": 0,
        "waiting": 0,
        "kv": {
            "blocks_used": 0,
            "blocks_held": 0,
            "held": 0,
            "pulled": 0,
            "received": 0,
            "met": 0,
            "expired": 0,
            "errors": {},
        },
    }


async def test_names_come_from_the_client_or_the_seed() -> None:
    assert Engines().decode.name_answer(Endpoint.COMPLETION, "abc") == "cmpl-abc"
    names = [Engines(seed=seed).decode.name_answer(Endpoint.CHAT, None) for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("chatcmpl-")


async def test_every_request_has_an_id_of_its_own() -> None:
    engines = Engines()
    ids = {(await run(engines.prefill, ask_prefill())).request_id for _ in range(3)}
    assert len(ids) == 3
    assert len(engines.prefill.kv.held) == 3
