from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from baton.api.endpoints import Phase
from baton.api.engine import AcceleratorType, EngineKind
from baton.api.kv_transfer import KVConnector
from baton.rendering.plan import Sizes
from baton.rendering.resolve import resolve
from rendering_builders import example, pair, raw, read, role, serving

if TYPE_CHECKING:
    from baton.rendering.plan import RolePlan


def _plan(**engine: Any) -> RolePlan:
    (typed,) = resolve(serving(role(**engine)))
    return typed.plan


def test_nothing_but_image_and_model_is_needed() -> None:
    plan = _plan()

    assert (plan.phase, plan.kind, plan.accelerator) == (
        Phase.AGGREGATED,
        EngineKind.VLLM_ASCEND,
        AcceleratorType.A3,
    )
    assert (plan.sizes, plan.nodes, plan.ranks_per_node) == (Sizes(), 1, 1)
    assert (plan.api_port, plan.rpc_port, plan.kv) == (7100, None, None)
    assert (plan.served_name, plan.resource_name) == ("m", "huawei.com/Ascend910")


def test_the_example_is_one_prefill_and_one_decode_node() -> None:
    prefill, decode = (typed.plan for typed in resolve(example()))

    assert (prefill.sizes, prefill.nodes, prefill.ranks_per_node) == (Sizes(data=4, tensor=4), 1, 4)
    assert prefill.process_devices == ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15))
    assert prefill.ports == {"api": (7100, 4), "rpc": (12321, 1), "kv": (30000, 16)}
    assert (decode.sizes, decode.nodes, decode.ranks_per_node) == (Sizes(data=16, tensor=1), 1, 16)
    assert decode.ports == {"api": (7100, 16), "rpc": (12321, 1), "kv": (30100, 16)}


def test_both_sides_know_the_real_sizes_of_both() -> None:
    for typed in resolve(pair()):
        assert typed.plan.kv is not None
        assert (typed.plan.kv.prefill, typed.plan.kv.decode) == (Sizes(data=2, tensor=2), Sizes(data=4, tensor=1))


@pytest.mark.parametrize(
    ("parallel", "accelerator", "nodes", "ranks"),
    [
        ({"data": 32}, "A2", 4, 8),
        ({"data": 32}, "A3", 2, 16),
        ({"data": 4, "tensor": 8}, "A2", 4, 1),
        ({"data": 12}, "A2", 2, 6),
        ({"data": 4, "dataLocal": 2}, "A3", 2, 2),
        ({"data": 4, "tensor": 2, "pipeline": 2}, "A2", 2, 2),
        ({"data": 4, "tensor": 2, "prefillContext": 2}, "A2", 2, 2),
    ],
)
def test_a_replica_takes_as_few_nodes_as_its_ranks_need(
    parallel: dict[str, int], accelerator: str, nodes: int, ranks: int
) -> None:
    plan = _plan(parallel=parallel, accelerator={"type": accelerator})

    assert (plan.nodes, plan.ranks_per_node) == (nodes, ranks)


@pytest.mark.parametrize(
    ("name", "engine", "phase"),
    [
        ("prefill", {}, Phase.PREFILL),
        ("decode", {}, Phase.DECODE),
        ("other", {}, Phase.AGGREGATED),
        ("other", {"phase": "decode"}, Phase.DECODE),
        ("prefill", {"phase": "aggregated"}, Phase.AGGREGATED),
    ],
)
def test_the_phase_is_that_of_the_name_unless_it_is_set(name: str, engine: dict[str, Any], phase: Phase) -> None:
    (typed,) = resolve(serving(role(name, **engine)))

    assert typed.plan.phase is phase


def test_internal_data_parallelism_is_one_process_with_all_devices_and_one_port() -> None:
    plan = _plan(parallel={"data": 4, "tensor": 4, "dataMode": "Internal"})

    assert (plan.ranks_per_node, plan.processes, plan.ports) == (4, 1, {"api": (7100, 1)})
    assert plan.process_devices == (tuple(range(16)),)


def test_internal_data_parallelism_over_nodes_meets_at_the_entry_pod_and_serves_there() -> None:
    plan = _plan(parallel={"data": 8, "tensor": 4, "dataMode": "Internal"})

    assert (plan.nodes, plan.ranks_per_node, plan.processes, plan.has_headless_workers) == (2, 4, 1, True)
    assert plan.ports == {"api": (7100, 1), "rpc": (12321, 1)}
    assert plan.worker_ports == {}


@pytest.mark.parametrize(
    ("parallel", "nodes", "devices"),
    [({"tensor": 32}, 2, 16), ({"tensor": 16, "pipeline": 3}, 3, 16), ({"tensor": 24}, 2, 12)],
)
def test_a_rank_too_large_for_a_node_is_spread_evenly_over_several(
    parallel: dict[str, int], nodes: int, devices: int
) -> None:
    plan = _plan(parallel=parallel)

    assert (plan.nodes, plan.nodes_per_rank, plan.processes, plan.devices_per_pod) == (nodes, nodes, 1, devices)
    assert plan.process_devices == (tuple(range(devices)),)
    assert plan.ports == {"api": (7100, 1), "master": (7001, 1)}
    assert plan.has_headless_workers


def test_external_ranks_serve_in_every_pod() -> None:
    plan = _plan(parallel={"data": 32})

    assert (plan.nodes, plan.has_headless_workers) == (2, False)
    assert plan.worker_ports == plan.ports


def test_vllm_means_nvidia_and_nixl() -> None:
    plan = resolve(pair(kind="vLLM"))[0].plan

    assert (plan.accelerator, plan.resource_name) == (AcceleratorType.NVIDIA, "nvidia.com/gpu")
    assert plan.kv is not None
    assert plan.kv.connector is KVConnector.NIXL


@pytest.mark.parametrize(
    ("model", "mount"),
    [
        ({"path": "/data/m", "source": {"hostPath": {"path": "/data"}}}, "/data"),
        ({"path": "/data/m", "source": {"hostPath": {"path": "/mnt/m"}}}, "/data/m"),
        ({"path": "/data/m", "source": {"hostPath": {"path": "/mnt"}, "mountPath": "/data"}}, "/data"),
        ({"path": "/data/m", "source": {"persistentVolumeClaim": {"claimName": "c"}}}, "/data/m"),
        ({"path": "/data/m"}, ""),
    ],
)
def test_weights_are_mounted_where_the_model_is_looked_for(model: dict[str, Any], mount: str) -> None:
    assert _plan(model=model).mount_path == mount


@pytest.mark.parametrize("grace", [1, 2, 10, 300, 3600])
def test_the_engine_gives_up_before_the_script_and_the_script_before_the_kubelet(grace: int) -> None:
    plan = _plan(terminationGracePeriodSeconds=grace)

    assert 1 <= plan.drain_seconds <= plan.stop_seconds <= grace - plan.pre_stop_seconds
    assert 1 <= plan.crash_seconds <= plan.stop_seconds


def test_raw_roles_are_left_out() -> None:
    assert [typed.index for typed in resolve(read({"roles": [raw(), role("typed")]}))] == [1]
