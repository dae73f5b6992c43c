"""Determines every value of a role's plan from its engine and the other roles. Total: never refuses anything.

What cannot work still gets a plan, so that `baton.rendering.rules` can say why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from baton.api.endpoints import Phase
from baton.api.engine import Accelerator, AcceleratorType, DataParallelMode, Engine, EngineKind, Model, Parallel, Ports
from baton.api.kv_transfer import KVConnector, KVStore, KVTransfer, StoreBackend
from baton.api.serving import ModelServing, Role
from baton.rendering.accelerators import ACCELERATORS
from baton.rendering.merge import engine_path, merge_engines, merge_objects
from baton.rendering.plan import KVTransferPlan, RolePlan, Sizes, StorePlan

API_PORT: Final = 7100
RPC_PORT: Final = 12321
MASTER_PORT: Final = 7001
"""Port of vLLM-Ascend's guide to context parallelism over several nodes."""
KV_PORTS: Final = {Phase.PREFILL: 30000, Phase.DECODE: 30100}
"""Ports of vLLM-Ascend's DeepSeek-V4-Flash tutorial."""
KV_TIMEOUT: Final = 480
"""The engine's own default of how long a prefill holds KV, in seconds."""
STARTUP: Final = 3600
"""vLLM-Ascend's CI waits as long, in seconds."""
TERMINATION: Final = 300
PRE_STOP: Final = 5
"""Time for routers to see that the pod is going, in seconds."""
CRASH: Final = 30
"""Time for the other ranks to end when one has died; they hang in collectives and cannot drain. In seconds."""
SHARED_MEMORY: Final = "512Gi"
SEGMENT_SIZE: Final = "1GB"
"""The smallest share of a Mooncake pool: segments are aligned to it."""


@dataclass(frozen=True, slots=True)
class TypedRole:
    """A role with a typed engine: what the user wrote and the plan made of it."""

    index: int
    role: Role
    shared: Engine | None
    plan: RolePlan

    def path(self, field: str) -> str:
        """Return the path of an engine field (camelCase, dotted) as the user wrote it."""
        return engine_path(field, index=self.index, own=self.role.engine, shared=self.shared)


def resolve(serving: ModelServing) -> tuple[TypedRole, ...]:
    """Plan every typed role of a ModelServing; raw roles are left out."""
    shared = serving.spec.template.engine
    engines = {
        index: merge_engines(shared, role.engine)
        for index, role in enumerate(serving.spec.template.roles)
        if shared is not None or role.engine is not None
    }
    roles = serving.spec.template.roles
    sizes: dict[Phase, Sizes] = {}
    for index, engine in engines.items():
        sizes.setdefault(_phase(engine, roles[index].name), _sizes(engine))
    return tuple(
        TypedRole(index, roles[index], shared, _plan(serving.metadata.name, roles[index].name, engine, sizes))
        for index, engine in engines.items()
    )


def _phase(engine: Engine, role: str) -> Phase:
    if engine.phase is not None:
        return engine.phase
    return Phase(role) if role in {Phase.PREFILL, Phase.DECODE} else Phase.AGGREGATED


def _sizes(engine: Engine) -> Sizes:
    parallel = engine.parallel or Parallel()
    return Sizes(
        data=parallel.data or 1,
        tensor=parallel.tensor or 1,
        pipeline=parallel.pipeline or 1,
        prefill_context=parallel.prefill_context or 1,
    )


@dataclass(frozen=True, slots=True)
class _Spread:
    """How a role replica is spread over nodes."""

    nodes: int
    ranks_per_node: int
    nodes_per_rank: int


def _spread(sizes: Sizes, *, local: int | None, devices_per_node: int) -> _Spread:
    """Spread a replica over as few nodes as possible."""
    nodes_per_rank = -(-sizes.devices_per_rank // devices_per_node)
    if nodes_per_rank > 1:
        return _Spread(sizes.data * nodes_per_rank, local or 1, nodes_per_rank)
    if local is not None:
        return _Spread(-(-sizes.data // local), local, 1)
    nodes = -(-sizes.data // (devices_per_node // sizes.devices_per_rank))
    return _Spread(nodes, -(-sizes.data // nodes), 1)


def _plan(serving: str, role: str, engine: Engine, group: dict[Phase, Sizes]) -> RolePlan:
    kind = engine.kind or EngineKind.VLLM_ASCEND
    accelerator = engine.accelerator or Accelerator()
    default = AcceleratorType.A3 if kind is EngineKind.VLLM_ASCEND else AcceleratorType.NVIDIA
    accelerator_type = accelerator.type or default
    facts = ACCELERATORS[accelerator_type]
    devices_per_node = accelerator.devices_per_node or facts.devices_per_node
    phase, sizes = _phase(engine, role), _sizes(engine)
    parallel = engine.parallel or Parallel()
    spread = _spread(sizes, local=parallel.data_local, devices_per_node=devices_per_node)
    is_internal = parallel.data_mode is DataParallelMode.INTERNAL
    has_rpc = sizes.data > 1 and (spread.nodes > 1 or not is_internal)
    ports = engine.ports or Ports()
    model = engine.model or Model()
    grace = engine.termination_grace_period_seconds or TERMINATION
    pre_stop = min(PRE_STOP, grace // 5)
    # The engine gives up before the script kills it, the script before the kubelet does.
    drain = max(1, (grace - pre_stop) * 90 // 100)
    stop = max(1, (grace - pre_stop) * 95 // 100)
    return RolePlan(
        serving=serving,
        role=role,
        phase=phase,
        kind=kind,
        engine=engine,
        image=engine.image or "",
        model_path=model.path or "",
        served_name=model.served_name or serving,
        mount_path=_mount_path(model),
        accelerator=accelerator_type,
        devices_per_node=devices_per_node,
        resource_name=accelerator.resource_name or facts.resource_name,
        sizes=sizes,
        decode_context=parallel.decode_context or 1,
        nodes=spread.nodes,
        ranks_per_node=spread.ranks_per_node,
        nodes_per_rank=spread.nodes_per_rank,
        is_internal=is_internal,
        api_port=ports.api or API_PORT,
        rpc_port=(ports.data_parallel_rpc or RPC_PORT) if has_rpc else None,
        master_port=(ports.master or MASTER_PORT) if spread.nodes_per_rank > 1 else None,
        kv=_kv(engine, kind, phase, sizes, group),
        host_network=bool(engine.network and engine.network.host_network),
        interface=(engine.network and engine.network.interface) or "",
        shared_memory=(engine.resources and engine.resources.shared_memory) or SHARED_MEMORY,
        startup_seconds=engine.startup_timeout_seconds or STARTUP,
        termination_seconds=grace,
        pre_stop_seconds=pre_stop,
        drain_seconds=drain,
        stop_seconds=stop,
        crash_seconds=min(CRASH, stop),
    )


def _kv(
    engine: Engine, kind: EngineKind, phase: Phase, sizes: Sizes, group: dict[Phase, Sizes]
) -> KVTransferPlan | None:
    if phase is Phase.AGGREGATED:
        return None
    transfer = engine.kv_transfer or KVTransfer()
    default = KVConnector.MOONCAKE_HYBRID if kind is EngineKind.VLLM_ASCEND else KVConnector.NIXL
    return KVTransferPlan(
        connector=transfer.connector or default,
        port=transfer.port or KV_PORTS[phase],
        timeout_seconds=transfer.timeout_seconds or KV_TIMEOUT,
        prefill=group.get(Phase.PREFILL, sizes),
        decode=group.get(Phase.DECODE, sizes),
        failure_policy=transfer.load_failure_policy,
        store=_store(transfer.store),
    )


def _store(store: KVStore | None) -> StorePlan | None:
    if store is None:
        return None
    backend = store.backend or StoreBackend.MOONCAKE
    # A suffix of a socket's path, not a TCP port; every pod has the directory for itself.
    computed = {"backend": backend.value, "lookup_rpc_port": "0"}
    return StorePlan(
        backend=backend,
        master=store.master or "",
        segment_size=store.segment_size or SEGMENT_SIZE,
        extra_config=merge_objects(computed, store.extra_config or {}),
    )


def _mount_path(model: Model) -> str:
    path, source = model.path or "", model.source
    if source is None:
        return ""
    if source.mount_path:
        return source.mount_path
    if source.host_path is not None and is_inside(path, source.host_path.path):
        return source.host_path.path
    return path


def is_inside(path: str, directory: str) -> bool:
    """Whether an absolute path is a directory or lies in it."""
    return f"{path.rstrip('/')}/".startswith(f"{directory.rstrip('/')}/")
