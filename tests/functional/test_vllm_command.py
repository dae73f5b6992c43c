"""The simulated `vllm` in real processes: under the launch scripts as they are rendered, and by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from baton.api.serving import ModelServing
from launch_pod import enter_role, free_ports, members, output_of, running
from rendering_builders import EXAMPLE, pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PREFILL, DECODE = "127.64.4.1", "127.64.4.2"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me."}], "max_tokens": 8}
FOR_PREFILL = {"max_tokens": 1, "min_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
# Sixteen processes start on two cores, which other tests may use as well.
PATIENCE = 90.0


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 # a script announces nothing to wait for
            await asyncio.sleep(0.1)


async def post(session: aiohttp.ClientSession, address: str, port: int, body: Any) -> tuple[int, Any]:
    url = f"http://{address}:{port}/v1/chat/completions"
    async with session.post(url, json=body) as response:
        return response.status, await response.json()


async def ask(session: aiohttp.ClientSession, address: str, port: int, body: Any) -> Any:
    status, answer = await post(session, address, port, body)
    assert status == 200, answer
    return answer


async def state(session: aiohttp.ClientSession, address: str, port: int) -> Any:
    async with session.get(f"http://{address}:{port}/sim/state") as response:
        (engine,) = (await response.json())["engines"]
        return engine


def example(prefill_port: int, decode_port: int) -> ModelServing:
    """Return the DeepSeek example with API ports that both fit on one machine, on its loopback interface."""
    document = yaml.safe_load(EXAMPLE.read_text())
    template = document["spec"]["template"]
    template["engine"]["network"]["interface"] = "lo"
    for role, port in zip(template["roles"], (prefill_port, decode_port), strict=True):
        role["engine"]["ports"] = {"api": port}
    return ModelServing.read(document, strict=True)


async def test_the_example_hands_over_between_4_prefill_and_16_decode_ranks(tmp_path: Path) -> None:
    first = free_ports(20)
    serving = example(first, first + 4)
    prefill = enter_role(tmp_path, serving, "prefill", PREFILL)
    decode = enter_role(tmp_path, serving, "decode", DECODE, BATON_SIM_TOKENS_PER_SECOND="100")

    with running(prefill) as prefill_process, running(decode) as decode_process:
        async with aiohttp.ClientSession() as session:
            await wait_until(prefill.is_ready)
            await wait_until(decode.is_ready)

            whole = await ask(session, DECODE, first + 4, CHAT | {"model": "dsv4"})
            prompt = await ask(session, PREFILL, first + 2, CHAT | FOR_PREFILL | {"model": "dsv4"})
            parameters = prompt["kv_transfer_params"]
            # Rank 2 of 4 with 4 devices each: its side channel begins 8 ports after the first.
            assert (parameters["remote_host"], parameters["remote_port"]) == (PREFILL, 30008)
            assert parameters["remote_engine_id"].startswith("dsv4-0-prefill-0-")
            body = CHAT | {"model": "dsv4", "kv_transfer_params": parameters}
            answer = await ask(session, DECODE, first + 4 + 9, body)
            assert answer["choices"] == whole["choices"]
            assert (await state(session, PREFILL, first + 2))["kv"]["pulled"] == 1
            assert (await state(session, DECODE, first + 4 + 9))["requests"]["decode"] == 1

            url = f"http://{DECODE}:{first + 4 + 15}/v1/chat/completions"
            long = CHAT | {"model": "dsv4", "max_tokens": 100, "stream": True}
            async with session.post(url, json=long) as stream:
                await stream.content.readuntil(b"\n\n")
                prefill_process.terminate()
                decode_process.terminate()
                assert (await stream.read()).endswith(b"data: [DONE]\n\n")

        output = await asyncio.to_thread(output_of, decode_process)
        assert f'port={first + 4 + 15} place="DP rank 15 of 16"' in output
        assert "side_channel=none" in output
        assert "30012-30015" in await asyncio.to_thread(output_of, prefill_process)
        assert (prefill_process.returncode, decode_process.returncode) == (0, 0)
        assert members(prefill_process.pid) == members(decode_process.pid) == []


def test_a_launch_whose_sides_disagree_fails_with_the_reason(tmp_path: Path) -> None:
    pod = enter_role(tmp_path, pair(ports={"api": free_ports(2)}), "prefill", PREFILL)
    script = pod.directory / "launch.sh"
    script.write_text(script.read_text().replace('"prefill": {"dp_size": 2', '"prefill": {"dp_size": 4'))

    with running(pod) as process:
        output = output_of(process)

    assert process.returncode == 1
    assert (
        "ValueError: KV transfer 'prefill' config has a conflicting data parallel size. Expected 2, but got 4" in output
    )
    assert "ended with status 1: stopping all" in output


class Engine:
    """One process of the command by itself."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    async def wait_until_healthy(self, session: aiohttp.ClientSession) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await self.is_healthy(session):
                assert self.process.returncode is None
                await asyncio.sleep(0.05)

    async def is_healthy(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"http://127.0.0.1:{self.port}/health") as response:
                return response.status == 200
        return False

    async def end(self) -> tuple[int, str]:
        """Return the exit status and what it wrote, when it has ended."""
        async with asyncio.timeout(PATIENCE):
            output, _ = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, output.decode()


class Machine:
    """Starts engines on one address, and ends those that are left."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.first_port = free_ports(8)
        self._engines: list[Engine] = []

    async def start(self, text: str = "", config: dict[str, Any] | None = None, **environment: str) -> Engine:
        port = self.first_port + len(self._engines)
        words = ["serve", "m", "--port", str(port), *text.split()]
        words += ["--kv-transfer-config", json.dumps(config)] if config else []
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "baton.cli.vllm"),
            *words,
            env={"PATH": os.environ["PATH"], "VLLM_HOST_IP": PREFILL} | environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._engines.append(Engine(process, port))
        return self._engines[-1]

    async def start_and_wait(self, text: str = "", config: dict[str, Any] | None = None, **environment: str) -> Engine:
        engine = await self.start(text, config, **environment)
        await engine.wait_until_healthy(self.session)
        return engine

    async def accepts(self, address: str, port: int) -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(address, port)
            writer.close()
            return True
        return False

    async def close(self) -> None:
        for engine in self._engines:
            with contextlib.suppress(ProcessLookupError):
                engine.process.kill()
            await engine.end()


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    async with aiohttp.ClientSession() as session:
        machine = Machine(session)
        yield machine
        await machine.close()


def mooncake(role: str, port: int, **sizes: Any) -> dict[str, Any]:
    return {
        "kv_connector": "MooncakeHybridConnector",
        "kv_role": role,
        "kv_port": port,
        "kv_connector_extra_config": {"prefill": {"dp_size": 1, "tp_size": 2}, "decode": {"dp_size": 1, "tp_size": 1}}
        | sizes,
    }


async def test_a_decode_that_was_told_other_sizes_gets_no_kv(machine: Machine) -> None:
    prefill = await machine.start_and_wait("-tp 2", mooncake("kv_producer", 30000))
    told = mooncake("kv_consumer", 30100, prefill={"dp_size": 4, "tp_size": 2})
    decode = await machine.start_and_wait("", told)

    prompt = await ask(machine.session, "127.0.0.1", prefill.port, CHAT | FOR_PREFILL | {"model": "m"})
    body = CHAT | {"model": "m", "kv_transfer_params": prompt["kv_transfer_params"]}
    status, answer = await post(machine.session, "127.0.0.1", decode.port, body)

    assert status == 500
    assert "prefill.dp_size is 1 at the prefill and 4 at the decode" in answer["error"]["message"]
    assert (await state(machine.session, "127.0.0.1", decode.port))["kv"]["errors"] == {"mismatch": 1}
    async with machine.session.get(f"http://127.0.0.1:{decode.port}/metrics") as response:
        assert 'sim:kv_errors_total{engine="0",model_name="m",reason="mismatch"} 1.0' in await response.text()


async def test_a_port_that_two_engines_want_ends_the_second(machine: Machine) -> None:
    await machine.start_and_wait("-tp 2", mooncake("kv_producer", 30000))
    # The first holds 30000 and 30001.
    status, output = await (await machine.start("-tp 2", mooncake("kv_producer", 30001))).end()
    assert (status, f"cannot listen on {PREFILL} port 30001: another program has it" in output) == (1, True)
    status, output = await (await machine.start(f"--port {machine.first_port}")).end()
    assert (status, f"port {machine.first_port}: another program has it" in output) == (1, True)


async def test_ranks_come_up_together_and_end_with_their_coordinator(machine: Machine) -> None:
    group = f"-dp 2 --data-parallel-address {PREFILL} --data-parallel-rpc-port {machine.first_port + 7}"
    second = await machine.start(f"{group} --data-parallel-rank 1")
    first = await machine.start(f"{group} --data-parallel-rank 0", BATON_SIM_LOAD_SECONDS="0.5")
    assert not await second.is_healthy(machine.session)
    await first.wait_until_healthy(machine.session)
    await second.wait_until_healthy(machine.session)

    first.process.kill()
    status, output = await second.end()

    assert status == 1
    assert "RuntimeError: DP rank 0, the coordinator, has died" in output


async def test_an_engine_that_still_loads_can_be_stopped(machine: Machine) -> None:
    engine = await machine.start("-tp 2", mooncake("kv_producer", 30000), BATON_SIM_LOAD_SECONDS="600")
    async with asyncio.timeout(PATIENCE):
        # The side channel is there first.
        while not await machine.accepts(PREFILL, 30001):  # noqa: ASYNC110 # another process
            await asyncio.sleep(0.05)
    assert not await engine.is_healthy(machine.session)

    engine.process.terminate()

    assert (await engine.end())[0] == 0


async def test_the_time_to_finish_requests_is_limited(machine: Machine) -> None:
    engine = await machine.start_and_wait("--shutdown-timeout 1", BATON_SIM_TOKENS_PER_SECOND="20")
    url = f"http://127.0.0.1:{engine.port}/v1/chat/completions"
    async with machine.session.post(url, json=CHAT | {"model": "m", "stream": True, "max_tokens": 10000}) as stream:
        await stream.content.readuntil(b"\n\n")
        engine.process.send_signal(signal.SIGTERM)
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.read()
    status, output = await engine.end()
    assert (status, "stopped cut=1 kv_lost=0" in output) == (0, True)


async def test_a_second_signal_ends_the_drain(machine: Machine) -> None:
    engine = await machine.start_and_wait("--shutdown-timeout 600", BATON_SIM_TOKENS_PER_SECOND="20")
    url = f"http://127.0.0.1:{engine.port}/v1/chat/completions"
    async with machine.session.post(url, json=CHAT | {"model": "m", "stream": True, "max_tokens": 10000}) as stream:
        await stream.content.readuntil(b"\n\n")
        engine.process.terminate()
        async with asyncio.timeout(PATIENCE):
            while await engine.is_healthy(machine.session):  # noqa: ASYNC110 # another process
                await asyncio.sleep(0.05)
        await stream.content.readuntil(b"\n\n")
        engine.process.terminate()
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.read()
    assert (await engine.end())[0] == 0


async def test_what_is_doubtful_is_said_and_starts(machine: Machine) -> None:
    engine = await machine.start_and_wait("--speed 9")
    engine.process.terminate()
    status, output = await engine.end()
    assert (status, "unrecognized arguments, which the real engine refuses: --speed 9" in output) == (0, True)


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--version"], 0, "+simulated"),
        (["--help"], 0, "BATON_SIM_LOAD_SECONDS"),
        (["serve", "--help"], 0, "--kv-transfer-config"),
        (["bench"], 2, "'bench' is not simulated"),
        (["serve", "m", "--port", "x"], 2, "argument --port: invalid int value: 'x'"),
        (["serve"], 1, "ValueError: no model"),
    ],
)
def test_other_uses_of_the_command(
    words: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from baton.cli import vllm

    try:
        ended: int | str | None = vllm.run(words, {})
    except SystemExit as end:
        ended = end.code
    output = capsys.readouterr()
    assert (ended, text in output.out + output.err) == (status, True)
