from __future__ import annotations

from typing import Any

import pytest

from baton.rendering.environment import environment_of
from baton.rendering.resolve import resolve
from rendering_builders import pair, role, serving


def _environment(**engine: Any) -> dict[str, str]:
    return environment_of(resolve(serving(role(**engine)))[0].plan)


def test_users_win_and_theirs_come_last_by_name() -> None:
    environment = _environment(env={"Z": "1", "HCCL_BUFFSIZE": "200", "A": "2"})

    assert environment["HCCL_BUFFSIZE"] == "200"
    assert list(environment)[-2:] == ["A", "Z"]


@pytest.mark.parametrize(
    ("accelerator", "phase", "size"),
    [("A2", 0, "1024"), ("A2", 1, "1024"), ("A3", 0, "2560"), ("A3", 1, "1024")],
)
def test_defaults_depend_on_accelerator_and_phase(accelerator: str, phase: int, size: str) -> None:
    plan = resolve(pair(accelerator={"type": accelerator}))[phase].plan

    assert environment_of(plan)["HCCL_BUFFSIZE"] == size


def test_the_interface_is_the_given_one_or_found() -> None:
    given, found = (pair(network={"interface": name}) for name in ("enp1", None))

    assert environment_of(resolve(given)[0].plan)["HCCL_SOCKET_IFNAME"] == "enp1"
    assert environment_of(resolve(found)[0].plan)["HCCL_SOCKET_IFNAME"] == "$(interface)"


def test_a_pod_that_talks_to_no_other_needs_no_network_variables() -> None:
    assert not {"HCCL_IF_IP", "VLLM_HOST_IP", "HCCL_SOCKET_IFNAME"} & set(_environment())
    assert {"HCCL_IF_IP", "VLLM_HOST_IP", "HCCL_SOCKET_IFNAME"} <= set(_environment(parallel={"data": 32}))


def test_both_names_of_the_abort_timeout_are_set() -> None:
    environment = environment_of(resolve(pair(kvTransfer={"timeoutSeconds": 60}))[1].plan)

    assert environment["VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT"] == "60"
    assert environment["VLLM_NIXL_ABORT_REQUEST_TIMEOUT"] == "60"


@pytest.mark.parametrize(
    ("accelerator", "own"),
    [("A2", {"HCCL_INTRA_ROCE_ENABLE"}), ("A3", {"ACL_OP_INIT_MODE", "ASCEND_ENABLE_USE_FABRIC_MEM"})],
)
def test_engines_that_share_a_pool_hash_alike_and_reach_it(accelerator: str, own: set[str]) -> None:
    shared = {"accelerator": {"type": accelerator}}
    plain, pooled = (
        environment_of(resolve(pair(**shared, kvTransfer=transfer))[0].plan)
        for transfer in ({}, {"store": {"master": "pool:50051"}})
    )

    assert pooled.keys() - plain.keys() == {"PYTHONHASHSEED", "MOONCAKE_CONFIG_PATH", *own}
    assert (pooled["PYTHONHASHSEED"], pooled["MOONCAKE_CONFIG_PATH"]) == ("0", "/baton/store.json")


def test_one_process_needs_no_share_of_the_devices() -> None:
    assert "ASCEND_RT_VISIBLE_DEVICES" not in _environment(parallel={"tensor": 8})
    assert "ASCEND_RT_VISIBLE_DEVICES" not in _environment(parallel={"data": 2, "dataMode": "Internal"})
    assert _environment(parallel={"data": 2})["ASCEND_RT_VISIBLE_DEVICES"] == "$(devices)"


def test_cpu_gets_no_devices_and_the_interface_of_its_transfers() -> None:
    environment = environment_of(resolve(pair(kind="vLLM", accelerator={"type": "CPU"}))[0].plan)

    assert (environment["UCX_TLS"], environment["UCX_NET_DEVICES"]) == ("tcp", "eth0")
    assert "" not in environment
    assert not [name for name in environment if name.endswith("VISIBLE_DEVICES")]


def test_nvidia_gets_its_own_variables() -> None:
    environment = environment_of(resolve(pair(kind="vLLM"))[0].plan)

    assert environment["CUDA_VISIBLE_DEVICES"] == "$(devices)"
    assert environment["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "$(POD_IP)"
    assert environment["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "30000"
    assert not [name for name in environment if name.startswith(("HCCL", "ASCEND", "LD_PRELOAD"))]
