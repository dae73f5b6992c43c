"""The rendered launch of the examples against the commands of the vLLM-Ascend documentation, rank by rank."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from baton.rendering import RankLaunch, launches
from rendering_builders import ROOT, example

SEED: dict[str, Any] = json.loads((ROOT / "tests" / "data" / "seed-commands.json").read_text())
SCRIPTS: list[dict[str, Any]] = SEED["scripts"]
MISSING = "-"
Difference = tuple[str, str, Any, Any]

# Every difference (where, what, the documentation's value, ours) and why: a fault or gap in the documentation, or a
# value that only the node knows.
DIFFERENCES: dict[Difference, str] = {
    ("env", "HCCL_IF_IP", "$local_ip", "$(POD_IP)"): "the pod's address, known when it runs",
    ("env", "GLOO_SOCKET_IFNAME", "$nic_name", "$(interface)"): "found on the node, instead of edited on each",
    ("env", "TP_SOCKET_IFNAME", "$nic_name", "$(interface)"): "the same",
    ("env", "HCCL_SOCKET_IFNAME", "$nic_name", "$(interface)"): "the same",
    (
        "env",
        "LD_PRELOAD",
        "/usr/lib/aarch64-linux-gnu/libjemalloc.so.2:$LD_PRELOAD",
        "/usr/lib/aarch64-linux-gnu/libjemalloc.so.2:$(LD_PRELOAD)",
    ): "our notation of a reference",
    (
        "env",
        "LD_LIBRARY_PATH",
        MISSING,
        "$(LD_LIBRARY_PATH):/usr/local/lib",
    ): "the image sets it in .bashrc; without it Mooncake's libraries are not found from a script",
    ("env", "HCCL_CONNECT_TIMEOUT", "120", "1200"): "a rank that starts two minutes later breaks it; 1200 elsewhere",
    ("env", "VLLM_HOST_IP", MISSING, "$(POD_IP)"): "the connector advertises it; without it it is guessed",
    ("env", "VLLM_ENGINE_READY_TIMEOUT_S", MISSING, "3600"): "the default of 600 s is too short for large weights",
    (
        "env",
        "VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT",
        MISSING,
        "480",
    ): "explicit, because the router's deadline hangs on it",
    ("env", "VLLM_NIXL_ABORT_REQUEST_TIMEOUT", MISSING, "480"): "the name that v0.21.0rc1 reads",
    ("flag", "--host", MISSING, "0.0.0.0"): "left to the engine there; probes and router need an address for certain",
    ("flag", "--data-parallel-address", "xx.xx.xx.1", "$(POD_IP)"): "the pod's address, known when it runs",
    ("flag", "--data-parallel-address", "xx.xx.xx.2", "$(POD_IP)"): "the same",
    ("flag", "--data-parallel-address", "${P0_IP}", "$(POD_IP)"): "the same",
    ("flag", "--data-parallel-address", "${P1_IP}", "$(POD_IP)"): "the same",
    ("flag", "--data-parallel-address", "${P2_IP}", "$(POD_IP)"): "the same",
    ("flag", "--data-parallel-address", "${P3_IP}", "$(POD_IP)"): "the same",
    ("flag", "--data-parallel-address", "${D0_IP}", "$(POD_IP)"): "the same, in the entry pod",
    (
        "flag",
        "--data-parallel-address",
        "${D0_IP}",
        "dsv4-0-decode-0-0.default",
    ): "in workers: the entry pod's name, which the script turns into its address",
    ("flag", "--shutdown-timeout", MISSING, "265"): "without it running requests are aborted when a pod stops",
    ("kv", "engine_id", "0", "dsv4-0-prefill-0"): "unique for each role replica",
    ("kv", "engine_id", "1", "dsv4-0-prefill-1"): "the same",
    ("kv", "engine_id", "2", "dsv4-0-prefill-2"): "the same",
    ("kv", "engine_id", "3", "dsv4-0-prefill-3"): "the same",
    ("kv", "engine_id", "1", "dsv4-0-decode-0"): "the same",
    ("kv", "engine_id", "4", "dsv4-0-decode-0"): "the same",
    ("kv", "kv_port", "30000", 30000): "an integer, as the engine declares it",
    ("kv", "kv_port", "30100", 30100): "the same",
    ("kv", "kv_port", "30400", 30400): "the same",
    (
        "kv",
        "kv_port",
        "30100",
        30000,
    ): "replicas of a role never share a node's ports: the pods declare them, so the scheduler keeps them apart",
    ("kv", "kv_port", "30200", 30000): "the same",
    ("kv", "kv_port", "30300", 30000): "the same",
    ("pre", "rm -rf ~/ascend/log", MISSING, MISSING): "a new container has no old logs",
}


def _processes() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(script, process) for script in SCRIPTS for process in script["processes"]]


def _name(value: dict[str, Any]) -> str:
    return f"{value['example'].removeprefix('deepseek-v4-flash-')}-{value['role']}" if "role" in value else "process"


@cache
def _launches(name: str) -> dict[tuple[str, int, str], RankLaunch]:
    """Return the processes of an example by role replica, pod and devices."""
    return {
        (rank.role_id, rank.worker_index, ",".join(map(str, rank.devices))): rank for rank in launches(example(name))
    }


def _ours(script: dict[str, Any], process: dict[str, Any]) -> RankLaunch:
    place = f"{script['role']}-{process['replica']}", process["worker"]
    found = [rank for (*at, _), rank in _launches(script["example"]).items() if tuple(at) == place]
    if not process["arguments"]:
        (only,) = found
        return only
    return _launches(script["example"])[*place, process["arguments"][0]]


def _filled(values: dict[str, Any], process: dict[str, Any]) -> dict[str, Any]:
    """Put in the arguments that the documentation's launcher passes to the script as $1 to $7."""
    arguments = {f"${number}": word for number, word in enumerate(process["arguments"], start=1)}
    return {name: arguments.get(value, value) if isinstance(value, str) else value for name, value in values.items()}


def _flags(argv: tuple[str, ...]) -> dict[str, Any]:
    flags: dict[str, Any] = {}
    for word in argv[3:]:
        if word.startswith("--"):
            flags[word] = True
        else:
            flags[list(flags)[-1]] = json.loads(word) if word.startswith("{") else word
    return flags


def _differences(script: dict[str, Any], process: dict[str, Any]) -> set[Difference]:
    ours = _ours(script, process)
    flags = _flags(ours.argv)
    config = flags.pop("--kv-transfer-config", {})
    theirs = dict(script["kvTransferConfig"] or {})
    if theirs:
        theirs |= {"kv_port": process["kvPort"], "engine_id": process["engineId"]}
    compared = (
        ("env", _filled(script["env"], process), ours.env),
        ("flag", _filled(script["flags"], process) | script["jsonFlags"], flags),
        ("kv", theirs, config),
    )
    commands = {("pre", command, MISSING, MISSING) for command in script["preCommands"] if "unset" not in command}
    return commands | {
        (where, name, documented.get(name, MISSING), rendered.get(name, MISSING))
        for where, documented, rendered in compared
        for name in documented.keys() | rendered.keys()
        if _text(documented.get(name, MISSING)) != _text(rendered.get(name, MISSING))
    }


def _text(value: Any) -> str:
    """Return what tells values of different types apart, too: 1 from "1" and from true."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=_name)
def test_ranks_differ_from_the_documentation_only_where_the_table_says_why(script: dict[str, Any]) -> None:
    for process in script["processes"]:
        assert _ours(script, process).argv[:3] == ("vllm", "serve", script["model"])
        assert _differences(script, process) <= set(DIFFERENCES), process


def test_the_table_of_differences_has_no_entry_without_use() -> None:
    assert set(DIFFERENCES) == set().union(*(_differences(*pair) for pair in _processes()))
    assert all(DIFFERENCES.values())


def test_every_process_of_the_documentation_is_started_and_no_other() -> None:
    documented = {
        name: [id(_ours(script, process)) for script, process in _processes() if script["example"] == name]
        for name in dict.fromkeys(script["example"] for script in SCRIPTS)
    }

    assert sum(map(len, documented.values())) == 84 + 2
    for name, processes in documented.items():
        assert sorted(processes) == sorted(map(id, _launches(name).values()))


@pytest.mark.parametrize(("script", "process"), _processes(), ids=_name)
def test_a_process_has_the_ports_and_the_rank_of_the_documentation(
    script: dict[str, Any], process: dict[str, Any]
) -> None:
    ours = _ours(script, process)
    devices, port, _, rank, *_ = process["arguments"] or ["", script["flags"]["--port"], "", "0"]

    assert (ours.port, ours.rank) == (int(port), int(rank))
    assert not devices or ours.env["ASCEND_RT_VISIBLE_DEVICES"] == devices


def test_proxies_that_the_documentation_unsets_are_unset() -> None:
    unset = {name for script in SCRIPTS for command in script["preCommands"] for name in command.split()[1:]}
    script = (ROOT / "templates" / "launch.sh.j2").read_text()

    (line,) = [line for line in script.splitlines() if line.startswith("unset ")]
    assert {name for name in unset if name.endswith("_proxy")} <= set(line.split())


def test_the_long_context_variant_has_the_sizes_that_the_documentation_names() -> None:
    documented = SEED["documentedOnly"]
    ranks = launches(example(documented["example"]))

    for role in ("prefill", "decode"):
        own = [rank for rank in ranks if rank.role == role]
        assert [rank.rank for rank in own] == documented["dp_rank_start_per_node"]
        assert [rank.worker_index for rank in own] == list(range(documented["parallel"][role]["nodes_per_instance"]))
        assert {",".join(map(str, rank.devices)) for rank in own} == {documented["devices"]}
        for rank in own:
            assert rank.kv_transfer_config is not None
            assert rank.kv_transfer_config["kv_connector_extra_config"] == documented["kv_connector_extra_config"]
            assert _flags(rank.argv)["--max-model-len"] == "1048576"


def test_the_article_is_reproduced_but_for_its_engine_id_that_the_shell_never_expands() -> None:
    fragments = SEED["fragments"]
    for rank in launches(example(fragments["example"])):
        documented, flags = fragments[rank.role], _flags(rank.argv)
        assert documented["flags"].items() <= flags.items()
        config = {**documented.get("kvTransferConfig", {})}
        assert config.pop("engine_id", None) in {"$MOONCAKE_ENGINE_ID", None}
        assert {name: str(flags["--kv-transfer-config"][name]) for name in config} == config
        assert flags["--kv-transfer-config"]["engine_id"] == f"deepseekv4-pd-0-{rank.role}-0"
        assert flags["--kv-transfer-config"]["kv_connector_extra_config"] == {
            "prefill": {"dp_size": 2, "tp_size": 8},
            "decode": {"dp_size": 8, "tp_size": 2},
        }
