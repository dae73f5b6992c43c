"""The plan of a role: everything the templates need, fully determined. Values, made in `baton.rendering.resolve`."""

from __future__ import annotations

from dataclasses import dataclass

from baton.api.endpoints import Phase
from baton.api.engine import AcceleratorType, Engine, EngineKind, KVConnector
from baton.rendering.accelerators import ACCELERATORS, AcceleratorFacts


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parallel sizes of one role replica."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1

    @property
    def devices_per_rank(self) -> int:
        """Devices of one DP rank."""
        return self.tensor * self.pipeline

    @property
    def devices(self) -> int:
        """Devices of the whole replica."""
        return self.data * self.devices_per_rank


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

    @property
    def is_mooncake(self) -> bool:
        """Whether the connector is one of vLLM-Ascend's Mooncake connectors."""
        return self.connector is not KVConnector.NIXL


@dataclass(frozen=True, slots=True)
class RolePlan:
    """One typed role.

    `engine` is the merged engine, for what is passed through as it is. Each pod runs `ranks_per_node` DP ranks on
    ports from `api_port` on; a replica has `nodes` pods. `rpc_port` is None with one DP rank, `kv` is None without KV
    transfer. Times are seconds: after the preStop pause the engine may drain, then stragglers are killed; when a rank
    has crashed, the others get `crash_seconds`.
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
    nodes: int
    ranks_per_node: int
    api_port: int
    rpc_port: int | None
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
    def devices_per_pod(self) -> int:
        """Devices each pod asks for."""
        return self.ranks_per_node * self.sizes.devices_per_rank

    @property
    def rank_devices(self) -> tuple[tuple[int, ...], ...]:
        """The devices of each rank of a pod, counted from 0 inside the pod."""
        size = self.sizes.devices_per_rank
        return tuple(tuple(range(rank * size, (rank + 1) * size)) for rank in range(self.ranks_per_node))

    @property
    def ports(self) -> dict[str, tuple[int, int]]:
        """Ranges (first, count) of the ports in a pod by what they are for.

        A KV port range covers the whole replica, because a rank's port counts from the replica's first rank.
        """
        ranges = {"api": (self.api_port, self.ranks_per_node)}
        if self.rpc_port is not None:
            ranges["rpc"] = (self.rpc_port, 1)
        if self.kv is not None:
            ranges["kv"] = (self.kv.port, self.sizes.devices)
        return ranges
