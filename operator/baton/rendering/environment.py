"""The environment of a rank: one table of defaults by accelerator and phase, then what the user set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from baton.api.endpoints import Phase
from baton.api.engine import AcceleratorType
from baton.api.kv_transfer import KVConnector
from baton.rendering.plan import LAUNCH_DIRECTORY, RolePlan

_ASCEND = frozenset({AcceleratorType.A2, AcceleratorType.A3})
_A2 = frozenset({AcceleratorType.A2})
_A3 = frozenset({AcceleratorType.A3})
_CPU = frozenset({AcceleratorType.CPU})
_PHASES = frozenset(Phase)
_PAIRED = frozenset({Phase.PREFILL, Phase.DECODE})
_PREFILL = frozenset({Phase.PREFILL})
_AGGREGATED = frozenset({Phase.AGGREGATED})


@dataclass(frozen=True, slots=True)
class Default:
    """A variable with its value where it applies; of several for one name the first that applies counts.

    `is_for_store` is for engines that share a KV pool only.
    """

    name: str
    value: str
    accelerators: frozenset[AcceleratorType] = _ASCEND
    phases: frozenset[Phase] = _PHASES
    is_for_store: bool = False


DEFAULTS: Final = (
    Default("VLLM_RPC_TIMEOUT", "3600000", phases=_PAIRED),
    Default("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "30000", phases=_PAIRED),
    Default("HCCL_EXEC_TIMEOUT", "204", phases=_PAIRED),
    Default("HCCL_CONNECT_TIMEOUT", "1200", phases=_PAIRED),
    Default("OMP_PROC_BIND", "false"),
    Default("OMP_NUM_THREADS", "10"),
    Default("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True"),
    Default("HCCL_BUFFSIZE", "2560", accelerators=_A3, phases=_PREFILL),
    Default("HCCL_BUFFSIZE", "1024"),
    Default("TASK_QUEUE_ENABLE", "1"),
    Default("VLLM_ASCEND_ENABLE_FLASHCOMM1", "1", accelerators=_A3, phases=_PREFILL),
    Default("VLLM_ASCEND_ENABLE_FLASHCOMM1", "1", phases=_AGGREGATED),
    Default("HCCL_OP_EXPANSION_MODE", "AIV"),
    Default("LD_PRELOAD", "/usr/lib/aarch64-linux-gnu/libjemalloc.so.2:$(LD_PRELOAD)"),
    # Mooncake's libraries; vLLM-Ascend's images name the directory in .bashrc, which only interactive shells read.
    Default("LD_LIBRARY_PATH", "$(LD_LIBRARY_PATH):/usr/local/lib"),
    # Engines find each other's blocks by hashes, which depend on this seed.
    Default("PYTHONHASHSEED", "0", is_for_store=True),
    Default("ACL_OP_INIT_MODE", "1", accelerators=_A3, is_for_store=True),
    Default("ASCEND_ENABLE_USE_FABRIC_MEM", "1", accelerators=_A3, is_for_store=True),
    Default("HCCL_INTRA_ROCE_ENABLE", "1", accelerators=_A2, is_for_store=True),
    # Everything else that UCX knows needs hardware.
    Default("UCX_TLS", "tcp", accelerators=_CPU, phases=_PAIRED),
)
"""Values of vLLM-Ascend's DeepSeek-V4-Flash tutorial, of its guide to the KV pool, and of its Dockerfiles."""

STORE_FILE: Final = f"{LAUNCH_DIRECTORY}/store.json"

FROM_POD: Final = frozenset({"POD_IP", "GROUP_NAME", "GROUP_SIZE", "ROLE_ID", "WORKER_INDEX", "ENTRY_ADDRESS"})
"""Variables of the pod that the launch depends on."""

FROM_SCRIPT: Final = frozenset(
    {
        *("rank", "port", "devices", "interface", "engine_id", "entry_ip", "pod_flags"),
        *("process_devices", "first_rank", "first_port"),
        *("BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"),
    }
)
"""Variables that the launch script uses itself, and those that bash never changes."""


def environment_of(plan: RolePlan) -> dict[str, str]:
    """Return the variables of a rank in a stable order; the user's win."""
    own = plan.engine.env or {}
    computed = computed_environment(plan)
    return {**computed, **{name: own[name] for name in sorted(own)}}


def computed_environment(plan: RolePlan) -> dict[str, str]:
    """Return the variables that Baton sets by itself."""
    variables: dict[str, str] = {}
    if plan.kv is not None or plan.nodes > 1:
        variables |= dict.fromkeys(plan.facts.address_variables, "$(POD_IP)")
        variables |= dict.fromkeys(plan.facts.interface_variables, plan.interface or "$(interface)")
    for default in DEFAULTS:
        if _applies(default, plan):
            variables.setdefault(default.name, default.value)
    variables["VLLM_ENGINE_READY_TIMEOUT_S"] = str(plan.startup_seconds)
    return variables | _transfer_variables(plan) | dict.fromkeys(device_variables(plan), "$(devices)")


def device_variables(plan: RolePlan) -> frozenset[str]:
    """Return the variable that gives each process its devices; none when one process has all that the pod was given."""
    return frozenset({plan.facts.visible_devices} - {""}) if plan.processes > 1 else frozenset()


def _applies(default: Default, plan: RolePlan) -> bool:
    has_store = plan.kv is not None and plan.kv.store is not None
    return (
        plan.accelerator in default.accelerators
        and plan.phase in default.phases
        and (has_store or not default.is_for_store)
    )


def _transfer_variables(plan: RolePlan) -> dict[str, str]:
    if plan.kv is None:
        return {}
    timeout = str(plan.kv.timeout_seconds)
    # Which of the two a connector reads depends on its version.
    variables = {"VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT": timeout, "VLLM_NIXL_ABORT_REQUEST_TIMEOUT": timeout}
    if plan.kv.connector is KVConnector.NIXL:
        variables["VLLM_NIXL_SIDE_CHANNEL_HOST"] = "$(POD_IP)"
        variables["VLLM_NIXL_SIDE_CHANNEL_PORT"] = str(plan.kv.port)
    if plan.kv.store is not None and plan.kv.store.has_file:
        variables["MOONCAKE_CONFIG_PATH"] = STORE_FILE
    return variables
