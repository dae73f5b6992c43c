"""Replicas of which only the entry pod serves: the simulated engine under launch scripts as they are rendered."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from launch_pod import Pod, enter_role, free_ports, members, output_of, running, wait_for
from rendering_builders import pair

if TYPE_CHECKING:
    from pathlib import Path

    from baton.api.serving import ModelServing

PREFILL, WORKER, DECODE = "127.64.6.1", "127.64.6.2", "127.64.6.3"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Tell me."}], "max_tokens": 8}
FOR_PREFILL = CHAT | {"max_tokens": 1, "min_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
MODES: dict[str, dict[str, Any]] = {
    "internal": {"data": 4, "tensor": 2, "dataMode": "Internal"},
    "spanning": {"data": 1, "tensor": 8},
}


def make_pair(mode: str, port: int) -> ModelServing:
    """Return a ModelServing whose prefill takes two nodes of 4 devices."""
    return pair(
        prefill={"parallel": MODES[mode], "ports": {"api": port}},
        decode={"parallel": {"data": 1}, "ports": {"api": port + 1}},
        accelerator={"devicesPerNode": 4},
    )


def enter_prefill(directory: Path, launched: ModelServing) -> tuple[Pod, Pod]:
    """Lay out the entry pod and the worker of prefill; a getent on PATH stands for the cluster's names."""
    entry = enter_role(directory, launched, "prefill", PREFILL)
    worker = enter_role(directory, launched, "prefill", WORKER, WORKER_INDEX="1", ENTRY_ADDRESS=PREFILL)
    names = worker.directory / "getent"
    names.write_text(f"#!/bin/sh\necho {PREFILL} entry\n")
    names.chmod(stat.S_IRWXU)
    return entry, worker


async def ask(session: aiohttp.ClientSession, address: str, port: int, body: dict[str, Any]) -> Any:
    async with session.post(f"http://{address}:{port}/v1/chat/completions", json=body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


@pytest.mark.parametrize("mode", MODES)
async def test_two_nodes_come_up_together_hand_over_and_drain(tmp_path: Path, mode: str) -> None:
    port = free_ports(2)
    launched = make_pair(mode, port)
    entry, worker = enter_prefill(tmp_path, launched)
    decode = enter_role(tmp_path, launched, "decode", DECODE)

    with running(worker) as worker_process, running(entry) as entry_process, running(decode) as decode_process:
        for pod in (entry, worker, decode):
            await asyncio.to_thread(wait_for, pod.is_ready, "the pod is ready", patience=90.0)
        async with aiohttp.ClientSession() as session:
            whole = await ask(session, DECODE, port + 1, CHAT)
            prompt = await ask(session, PREFILL, port, FOR_PREFILL)
            handed = CHAT | {"kv_transfer_params": prompt["kv_transfer_params"]}
            assert (await ask(session, DECODE, port + 1, handed))["choices"] == whole["choices"]
        processes = (worker_process, entry_process, decode_process)
        for process in processes:
            process.terminate()
        outputs = [await asyncio.to_thread(output_of, process) for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert 'port=none place="node 1 of 2" side_channel="127.64.6.2 30004-30007"' in outputs[0]
    assert f'port={port} place="node 0 of 2" side_channel="127.64.6.1 30000-30003"' in outputs[1]


def test_a_worker_that_dies_ends_the_entry_pod(tmp_path: Path) -> None:
    entry, worker = enter_prefill(tmp_path, make_pair("spanning", free_ports(2)))

    with running(worker) as worker_process, running(entry) as entry_process:
        wait_for(worker.is_ready, "both pods are ready", patience=90.0)
        for pid in members(worker_process.pid):
            os.kill(pid, signal.SIGKILL)
        output = output_of(entry_process)

    assert entry_process.returncode == 1
    assert "RuntimeError: node 1 has died, and the others cannot go on without it" in output
