"""The plan of a role: everything the templates need, fully determined. Values, made in `baton.rendering.resolve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from baton.api.endpoints import Phase
from baton.api.engine import AcceleratorType, DriverSource, Engine, EngineKind
from baton.api.kv_transfer import KVConnector, LoadFailurePolicy, StoreBackend
from baton.api.meta import JsonObject
from baton.rendering.accelerators import ACCELERATORS, AcceleratorFacts, DriverMount

LAUNCH_DIRECTORY: Final = "/baton"
"""Where pods find the files of their launch."""


PortRanges = Mapping[str, tuple[int, int]]
"""Ranges (first, count) of ports by what they are for."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parallel sizes of one role replica."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    prefill_context: int = 1

    @property
    def devices_per_rank(self) -> int:
        """Devices of one DP rank."""
        return self.tensor * self.pipeline * self.prefill_context

    @property
    def devices(self) -> int:
        """Devices of the whole replica."""
        return self.data * self.devices_per_rank


@dataclass(frozen=True, slots=True)
class StorePlan:
    """A KV pool beside the hand-over; without `master` the user brings the file that describes a Mooncake pool."""

    backend: StoreBackend
    master: str
    segment_size: str
    extra_config: JsonObject

    @property
    def has_file(self) -> bool:
        """Whether the launch brings the file that describes the pool."""
        return self.backend is StoreBackend.MOONCAKE and bool(self.master)


@dataclass(frozen=True, slots=True)
class KVTransferPlan:
    """How KV cache leaves or enters a role; `prefill` and `decode` are the real sizes of both sides.

    `port` is the first of a range with one port for every device of the replica.
    """

    connector: KVConnector
    port: int
    timeout_seconds: int
    prefill: Sizes
    decode: Sizes
    failure_policy: LoadFailurePolicy | None = None
    store: StorePlan | None = None

    @property
    def is_mooncake(self) -> bool:
        """Whether the connector is one of vLLM-Ascend's Mooncake connectors."""
        return self.connector is not KVConnector.NIXL


@dataclass(frozen=True, slots=True)
class RolePlan:
    """One typed role.

    `engine` is the merged engine, for what is passed through as it is. A replica has `nodes` pods with
    `ranks_per_node` DP ranks each: one process a rank, or with `is_internal` one process for all; the processes take
    ports from `api_port` on. A rank that no node holds takes `nodes_per_rank` pods, one process each. `rpc_port` is
    None when no rank looks for others by it, `master_port` when no rank spans nodes, `kv` without KV transfer. Times
    are seconds: after the preStop pause the engine may drain, then stragglers are killed; when a rank has crashed, the
    others get `crash_seconds`.
    """

    serving: str
    role: str
    phase: Phase
    kind: EngineKind
    engine: Engine
    image: str
    model_path: str
    served_name: str
    mount_path: str
    accelerator: AcceleratorType
    devices_per_node: int
    resource_name: str
    sizes: Sizes
    decode_context: int
    nodes: int
    ranks_per_node: int
    nodes_per_rank: int
    is_internal: bool
    api_port: int
    rpc_port: int | None
    master_port: int | None
    kv: KVTransferPlan | None
    host_network: bool
    interface: str
    shared_memory: str
    startup_seconds: int
    termination_seconds: int
    pre_stop_seconds: int
    drain_seconds: int
    stop_seconds: int
    crash_seconds: int

    @property
    def facts(self) -> AcceleratorFacts:
        """What is fixed for the accelerator."""
        return ACCELERATORS[self.accelerator]

    @property
    def driver_mounts(self) -> tuple[DriverMount, ...]:
        """What pods mount of the node's driver."""
        accelerator = self.engine.accelerator
        is_injected = accelerator is not None and accelerator.driver is DriverSource.RUNTIME
        return () if is_injected else self.facts.driver_mounts

    @property
    def devices_per_pod(self) -> int:
        """Devices each pod asks for."""
        return self.ranks_per_node * self.sizes.devices_per_rank // self.nodes_per_rank

    @property
    def spans_nodes(self) -> bool:
        """Whether a DP rank takes more than one node."""
        return self.nodes_per_rank > 1

    @property
    def has_headless_workers(self) -> bool:
        """Whether only the entry pod serves the API, for all others."""
        return self.nodes > 1 and (self.is_internal or self.spans_nodes)

    @property
    def ranks_per_process(self) -> int:
        """DP ranks that one engine process holds."""
        return self.ranks_per_node if self.is_internal else 1

    @property
    def processes(self) -> int:
        """Engine processes of each pod, one API port each unless the pod is headless."""
        return self.ranks_per_node // self.ranks_per_process

    @property
    def process_devices(self) -> tuple[tuple[int, ...], ...]:
        """The devices of each process of a pod, counted from 0 inside the pod."""
        size = self.devices_per_pod // self.processes
        return tuple(tuple(range(index * size, (index + 1) * size)) for index in range(self.processes))

    @property
    def ports(self) -> PortRanges:
        """The ports of an entry pod.

        A KV port range covers the whole replica, because a rank's port counts from the replica's first rank.
        """
        ranges = {"api": (self.api_port, self.processes)}
        if self.rpc_port is not None:
            ranges["rpc"] = (self.rpc_port, 1)
        if self.master_port is not None:
            ranges["master"] = (self.master_port, 1)
        if self.kv is not None:
            ranges["kv"] = (self.kv.port, self.sizes.devices)
        return ranges

    @property
    def worker_ports(self) -> PortRanges:
        """The ports of a worker pod: a headless one has no API, and meets the others at ports of the entry pod."""
        return {use: ports for use, ports in self.ports.items() if use == "kv" or not self.has_headless_workers}
