"""The rendered scripts in a real process tree: a stub `vllm` on PATH stands for every rank."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from baton.rendering import expand, launches
from launch_pod import PATIENCE, RANKS, enter, free_ports, is_alive, output_of, running, seen, small, wait_for
from rendering_builders import EXAMPLES, ROOT, example, pair, role, serving

SHELLCHECK = str(Path(sys.executable).with_name("shellcheck"))


def test_all_ranks_start_as_planned(tmp_path: Path) -> None:
    tricky = {"env": {"GREETING": 'it\'s "me" $HOME `id` $(POD_IP) $(id)'}, "flags": {"note": "a'b\nc $x"}}
    planned = small(**tricky)
    pod = enter(tmp_path, planned, LD_LIBRARY_PATH="/cann")

    with running(pod):
        for launch in launches(planned):
            facts = pod.rank(launch.rank)
            argv, environment = seen(launch, {"POD_IP": "127.0.0.1", "LD_PRELOAD": "", "LD_LIBRARY_PATH": "/cann"})
            assert facts["argv"] == argv
            assert {name: facts["env"][name] for name in environment} == environment


def test_libraries_are_never_looked_for_in_the_working_directory(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())

    with running(pod):
        assert set(pod.rank(0)["env"]["LD_LIBRARY_PATH"].split(":")) == {"/usr/local/lib"}


def test_prefill_of_a_pair_starts_with_the_kv_transfer_of_its_replica(tmp_path: Path) -> None:
    planned = pair(ports={"api": free_ports(2)})
    pod = enter(tmp_path, planned, GROUP_NAME="m-0", ROLE_ID="prefill-0")

    with running(pod):
        for launch in launches(planned)[:2]:
            argv, _ = seen(launch, {"POD_IP": "127.0.0.1"})
            assert pod.rank(launch.rank)["argv"] == argv


def test_a_worker_starts_its_own_ranks_and_meets_the_entry_pod(tmp_path: Path) -> None:
    planned = small(parallel={"data": 2 * RANKS, "dataLocal": RANKS})
    pod = enter(tmp_path, planned, WORKER_INDEX="1", ENTRY_ADDRESS="127.0.0.1")

    with running(pod):
        for launch in launches(planned)[RANKS:]:
            argv, _ = seen(launch, {})
            expected = ["127.0.0.1" if word == "m-0-server-0-0.team" else word for word in argv]
            assert pod.rank(launch.rank)["argv"] == expected


def test_a_worker_that_waits_for_the_entry_pod_can_be_stopped(tmp_path: Path) -> None:
    pod = enter(tmp_path, small(parallel={"data": 2 * RANKS, "dataLocal": RANKS}), WORKER_INDEX="1", ENTRY_ADDRESS="x")
    (tmp_path / "bin" / "getent").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 2\n")
    (tmp_path / "bin" / "getent").chmod(stat.S_IRWXU)

    with running(pod) as process:
        wait_for((tmp_path / "asked").exists, "the worker asks for the entry pod")
        process.terminate()
        output_of(process)

    assert process.returncode == 0
    assert not list(tmp_path.glob("*.json"))


def test_ranks_drain_on_sigterm_and_the_script_ends_well(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())
    (tmp_path / "drain").touch()

    with running(pod) as process:
        pids = [pod.rank(rank)["pid"] for rank in range(RANKS)]
        process.terminate()
        wait_for(lambda: len(list(tmp_path.glob("*.told"))) == RANKS, "all ranks are told")
        assert all(map(is_alive, pids))
        (tmp_path / "drain").unlink()
        output = output_of(process)

    assert process.returncode == 0
    assert {f"[rank {rank}] drained{rank}" for rank in range(RANKS)} <= set(output.splitlines())
    pod.wait_until_gone()


def test_requests_under_way_are_answered_after_sigterm(tmp_path: Path) -> None:
    planned = small()
    port = launches(planned)[1].port
    pod = enter(tmp_path, planned)
    (tmp_path / "drain").touch()

    with running(pod) as process:
        for rank in range(RANKS):
            pod.rank(rank)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET /generate HTTP/1.0\r\n\r\n")
            wait_for((tmp_path / "1.asked").exists, "rank 1 works on the request")
            process.terminate()
            wait_for(lambda: len(list(tmp_path.glob("*.told"))) == RANKS, "all ranks are told")
            (tmp_path / "answer").touch()
            assert b" 200 " in client.makefile("rb").readline()
        (tmp_path / "drain").unlink()
        output_of(process)

    assert process.returncode == 0
    pod.wait_until_gone()


def test_output_carries_the_rank(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())

    with running(pod) as process:
        for rank in range(RANKS):
            pod.rank(rank)
        process.terminate()
        lines = output_of(process).splitlines()

    for rank in range(RANKS):
        assert f"[rank {rank}] rank {rank} is up" in lines
        assert f"[rank {rank}] and says so" in lines


@pytest.mark.parametrize(("status", "expected"), [(3, 3), (0, 1)])
def test_one_rank_that_ends_stops_all(tmp_path: Path, status: int, expected: int) -> None:
    pod = enter(tmp_path, small())

    with running(pod) as process:
        for rank in range(RANKS):
            pod.rank(rank)
        (tmp_path / "1.exit").write_text(str(status))
        output = output_of(process)

    assert process.returncode == expected
    assert f"[baton] rank 1 ended with status {status}: stopping all" in output
    assert "[rank 0] drained0" in output
    pod.wait_until_gone()


def test_one_rank_that_crashes_at_its_start_stops_all(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())
    (tmp_path / "2.exit").write_text("9")

    with running(pod) as process:
        output = output_of(process)

    assert process.returncode == 9
    assert "[baton] rank 2 ended with status 9: stopping all" in output
    pod.wait_until_gone()


def test_one_process_holds_all_ranks_of_internal_data_parallelism(tmp_path: Path) -> None:
    planned = small(parallel={"data": RANKS, "dataMode": "Internal", "tensor": 2})
    pod = enter(tmp_path, planned)
    (launch,) = launches(planned)
    (tmp_path / "healthy").touch()

    with running(pod) as process:
        facts = pod.rank(0)
        assert facts["argv"] == seen(launch, {})[0]
        assert "ASCEND_RT_VISIBLE_DEVICES" not in facts["env"]
        wait_for(pod.is_ready, "the pod is ready")
        process.terminate()
        output_of(process)

    assert process.returncode == 0


HEADLESS: dict[str, dict[str, Any]] = {
    "internal": {"data": 32, "dataMode": "Internal"},
    "spanning": {"data": 1, "tensor": 32},
}


@pytest.mark.parametrize("mode", HEADLESS)
def test_a_headless_worker_is_ready_with_its_entry_pod_and_stops_after_it(tmp_path: Path, mode: str) -> None:
    planned = small(parallel=HEADLESS[mode])
    entry_launch, worker_launch = launches(planned)
    for name in ("entry", "worker"):
        (tmp_path / name).mkdir()
    entry = enter(tmp_path / "entry", planned)
    worker = enter(tmp_path / "worker", planned, WORKER_INDEX="1", ENTRY_ADDRESS="127.0.0.1")
    (entry.directory / "drain").touch()

    with running(worker) as worker_process:
        words = [word.replace("m-0-server-0-0.team", "127.0.0.1") for word in worker_launch.argv]
        assert worker.rank(0)["argv"] == words
        assert not worker.is_ready()
        with running(entry) as entry_process:
            assert entry.rank(0)["argv"] == seen(entry_launch, {"POD_IP": "127.0.0.1"})[0]
            assert not worker.is_ready()
            (entry.directory / "healthy").touch()
            wait_for(worker.is_ready, "the worker is ready")

            worker_process.terminate()
            assert worker_process.stdout is not None
            while "told to stop" not in worker_process.stdout.readline():
                assert worker_process.poll() is None
            entry_process.terminate()
            wait_for((entry.directory / "0.told").exists, "the entry pod drains")
            assert not (worker.directory / "0.told").exists()
            (entry.directory / "drain").unlink()
            output_of(entry_process)
        assert "drained0" in output_of(worker_process)

    assert (entry_process.returncode, worker_process.returncode) == (0, 0)


def test_a_headless_worker_whose_entry_pod_is_gone_stops_at_once(tmp_path: Path) -> None:
    pod = enter(tmp_path, small(parallel=HEADLESS["internal"]), WORKER_INDEX="1", ENTRY_ADDRESS="127.0.0.1")

    with running(pod) as process:
        pod.rank(0)
        process.terminate()
        output_of(process)

    assert process.returncode == 0


def test_proxies_of_the_image_do_not_reach_the_engines_but_the_users_do(tmp_path: Path) -> None:
    planned = small(env={"https_proxy": "http://own:1"})
    pod = enter(tmp_path, planned, http_proxy="http://image:1", HTTPS_PROXY="http://image:2")

    with running(pod):
        environment = pod.rank(0)["env"]

    assert {name: value for name, value in environment.items() if "proxy" in name.lower()} == {
        "https_proxy": "http://own:1"
    }


def test_a_rank_that_cannot_start_ends_the_script(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())
    (tmp_path / "bin" / "vllm").unlink()

    with running(pod) as process:
        output_of(process)

    assert process.returncode == 127


def test_sigterm_during_start_up_stops_what_has_started(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())

    with running(pod) as process:
        pod.rank(0)
        process.terminate()
        output_of(process)

    assert process.returncode == 0
    pod.wait_until_gone()


def test_a_rank_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    pod = enter(tmp_path, small(grace=2))
    (tmp_path / "drain").touch()

    with running(pod) as process:
        for rank in range(RANKS):
            pod.rank(rank)
        process.terminate()
        output = output_of(process)

    assert process.returncode == 128 + signal.SIGKILL
    assert "rank 2 still runs after 1 s: killing it" in output
    pod.wait_until_gone()


def test_a_pod_is_ready_when_all_its_ranks_answer(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())
    assert not pod.is_ready()

    with running(pod):
        for rank in range(RANKS):
            pod.rank(rank)
        assert not pod.is_ready()
        (tmp_path / "healthy").touch()
        assert pod.is_ready()
        (tmp_path / "2.exit").write_text("1")
        wait_for(lambda: not pod.is_ready(), "the pod is no longer ready")


def test_the_script_says_what_its_environment_lacks(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())
    del pod.environment["POD_IP"]

    with running(pod) as process:
        assert "POD_IP: must hold the address of this pod" in output_of(process)
    assert process.returncode != 0


ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
enp23s0f3\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
enp23s0f4\t0005A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
down0\t0705A8C0\t00000000\t0000\t0\t0\t0\tFFFFFFFF\t0\t0\t0
"""


@pytest.mark.parametrize(
    ("address", "interface"),
    [("192.168.5.7", "enp23s0f4"), ("192.168.6.7", "enp23s0f3"), ("10.0.0.1", "eth0"), ("fd00::1", "")],
)
def test_the_interface_is_that_of_the_most_specific_route(address: str, interface: str) -> None:
    source = (ROOT / "templates" / "interface.sh.j2").read_text().partition("-#}")[2]

    result = subprocess.run(
        ["bash", "-uc", f"{source}\ninterface_of {address}"], input=ROUTES, capture_output=True, text=True, check=False
    )

    assert result.stdout.strip() == interface
    assert result.returncode == (0 if interface else 1)


VARIANTS = {
    **{name: example(name) for name in EXAMPLES},
    "store": pair(kvTransfer={"store": {"master": "pool:50051"}}),
    "cpu": pair(kind="vLLM", accelerator={"type": "CPU", "devicesPerNode": 4}),
    "several-nodes": pair(decode={"parallel": {"data": 32, "tensor": 1}}),
    **{name: serving(role(parallel=parallel)) for name, parallel in HEADLESS.items()},
    "found-interface": serving(role(parallel={"data": 2}), engine={"network": {"interface": None}}),
    "one-rank": serving(role()),
    "nvidia": pair(kind="vLLM"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_scripts_pass_shellcheck(name: str, tmp_path: Path) -> None:
    expanded = expand(VARIANTS[name])
    assert expanded.config_maps
    for config_map in expanded.config_maps:
        for file, text in config_map.data.items():
            if file.endswith(".sh"):
                (tmp_path / f"{config_map.role}-{file}").write_text(text)

    scripts = sorted(map(str, tmp_path.iterdir()))
    result = subprocess.run([SHELLCHECK, *scripts], capture_output=True, text=True, check=False)

    assert (result.stdout, result.returncode) == ("", 0)
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
