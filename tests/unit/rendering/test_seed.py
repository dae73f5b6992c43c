"""The rendered launch of the A3 example against the commands of the vLLM-Ascend documentation, rank by rank."""

from __future__ import annotations

import json
from typing import Any

import pytest

from baton.rendering import RankLaunch, launches
from rendering_builders import ROOT, example

SEED: list[dict[str, Any]] = json.loads((ROOT / "tests" / "data" / "seed-a3-1p1d.json").read_text())["ranks"]
MISSING = "-"
Difference = tuple[str, str, Any, Any]

# Every difference (where, what, the documentation's value, ours) and why.
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
    ("env", "VLLM_HOST_IP", MISSING, "$(POD_IP)"): "the connector advertises it; without it it is guessed",
    ("env", "VLLM_ENGINE_READY_TIMEOUT_S", MISSING, "3600"): "the default of 600 s is too short for large weights",
    (
        "env",
        "VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT",
        MISSING,
        "480",
    ): "explicit, because the router's deadline hangs on it",
    ("env", "VLLM_NIXL_ABORT_REQUEST_TIMEOUT", MISSING, "480"): "the name that v0.21.0rc1 reads",
    ("flag", "--data-parallel-address", "xx.xx.xx.1", "$(POD_IP)"): "the pod's address, known when it runs",
    ("flag", "--data-parallel-address", "xx.xx.xx.2", "$(POD_IP)"): "the same",
    ("flag", "--shutdown-timeout", MISSING, "265"): "without it running requests are aborted when a pod stops",
    ("kv", "engine_id", "0", "dsv4-0-prefill-0"): "unique for each role replica",
    ("kv", "engine_id", "1", "dsv4-0-decode-0"): "the same",
    ("kv", "kv_port", "30000", 30000): "an integer, as the engine declares it",
    ("kv", "kv_port", "30100", 30100): "the same",
}


def _rank(role: str, rank: int) -> RankLaunch:
    (found,) = [each for each in launches(example()) if each.role == role and each.rank == rank]
    return found


def _flags(argv: tuple[str, ...]) -> dict[str, Any]:
    flags: dict[str, Any] = {}
    for word in argv[3:]:
        if word.startswith("--"):
            flags[word] = True
        else:
            flags[list(flags)[-1]] = json.loads(word) if word.startswith("{") else word
    return flags


def _differences(seed: dict[str, Any]) -> set[Difference]:
    ours = _rank(seed["role"], seed["rank"])
    flags = _flags(ours.argv)
    config = flags.pop("--kv-transfer-config")
    compared = (
        ("env", seed["env"], ours.env),
        ("flag", seed["flags"] | seed["jsonFlags"], flags),
        ("kv", seed["kvTransferConfig"], config),
    )
    return {
        (where, name, theirs.get(name, MISSING), rendered.get(name, MISSING))
        for where, theirs, rendered in compared
        for name in theirs.keys() | rendered.keys()
        if _text(theirs.get(name, MISSING)) != _text(rendered.get(name, MISSING))
    }


def _text(value: Any) -> str:
    """Return what tells values of different types apart, too: 1 from "1" and from true."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("seed", SEED, ids=lambda seed: f"{seed['role']}-{seed['rank']}")
def test_a_rank_differs_from_the_documentation_only_where_the_table_says_why(seed: dict[str, Any]) -> None:
    assert _rank(seed["role"], seed["rank"]).argv[:3] == ("vllm", "serve", seed["model"])
    assert _differences(seed) <= set(DIFFERENCES)


def test_the_table_of_differences_has_no_entry_without_use() -> None:
    assert set(DIFFERENCES) == set().union(*map(_differences, SEED))
    assert all(DIFFERENCES.values())


def test_every_rank_of_the_documentation_is_started_and_no_other() -> None:
    assert [(rank.role, rank.rank) for rank in launches(example())] == [(seed["role"], seed["rank"]) for seed in SEED]
