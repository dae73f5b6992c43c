"""Rules on DP ranks that take more devices than a node has: what vLLM's executor and the KV connectors do with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baton.api.endpoints import Phase
from baton.api.kv_transfer import KVConnector
from baton.rendering.arguments import canonical_flags
from baton.rendering.resolve import TypedRole
from baton.rendering.rules.rule import Finding, Group, Rule, found

_EXECUTOR: Final = "mp"


def _spanning(group: Group) -> Iterator[TypedRole]:
    return (role for role in group.typed if role.plan.spans_nodes)


def _several(group: Group) -> Iterator[Finding]:
    for role in _spanning(group):
        plan = role.plan
        if plan.sizes.data > 1:
            yield found(
                role.path("parallel.tensor"),
                data=plan.sizes.data,
                devices=plan.sizes.devices_per_rank,
                have=plan.devices_per_node,
            )


def _uneven(group: Group) -> Iterator[Finding]:
    for role in _spanning(group):
        plan = role.plan
        if plan.sizes.devices_per_rank % plan.nodes_per_rank:
            yield found(role.path("parallel.tensor"), devices=plan.sizes.devices_per_rank, nodes=plan.nodes_per_rank)


def _wrong_executor(group: Group) -> Iterator[Finding]:
    for role in _spanning(group):
        executor = canonical_flags(role.plan.engine.flags or {}).get("distributed-executor-backend", _EXECUTOR)
        if executor not in {_EXECUTOR, None}:
            yield found(role.path("flags"), executor=executor)


def _stages(group: Group) -> Iterator[Finding]:
    """Check what MooncakeHybridConnector's decode looks up: the node of a prefill device by its TP rank alone."""
    for prefill, _ in group.pairs(KVConnector.MOONCAKE_HYBRID):
        if prefill.plan.spans_nodes and prefill.plan.sizes.pipeline > 1:
            yield found(prefill.path("parallel.pipeline"))


def _shifted_ports(group: Group) -> Iterator[Finding]:
    """Check what MooncakeConnectorV1's decode looks up: the node of a prefill device by its port less decode's own."""
    for prefill, decode in group.pairs(KVConnector.MOONCAKE_V1):
        one, other = prefill.plan.kv, decode.plan.kv
        if one is None or other is None or not prefill.plan.spans_nodes:
            continue
        devices = prefill.plan.sizes.devices
        if 0 < abs(one.port - other.port) < devices:
            yield found(decode.path("kvTransfer.port"), prefill=one.port, decode=other.port, devices=devices)


def _layerwise_decode(group: Group) -> Iterator[Finding]:
    for role in _spanning(group):
        kv = role.plan.kv
        if kv is not None and kv.connector is KVConnector.MOONCAKE_LAYERWISE and role.plan.phase is Phase.DECODE:
            yield found(role.path("parallel.tensor"))


RULES: Final = (
    Rule(
        "spanning-alone",
        _several,
        "a DP rank takes tensor · pipeline · prefillContext = {devices} devices, a node has {have}, and of ranks that "
        "span nodes a replica holds one, not {data}",
        "set parallel.data to 1 and raise replicas of the role, or lower tensor, pipeline or prefillContext",
    ),
    Rule(
        "spanning-evenly",
        _uneven,
        "the {devices} devices of a DP rank do not spread evenly over {nodes} nodes",
        "choose tensor, pipeline and prefillContext so that their product is a multiple of {nodes}",
    ),
    Rule(
        "spanning-executor",
        _wrong_executor,
        "a DP rank that spans nodes runs by vLLM's executor mp, not {executor}",
        "remove distributed-executor-backend from flags",
    ),
    Rule(
        "spanning-stages",
        _stages,
        "decode of MooncakeHybridConnector does not find the pipeline stages of prefill on other nodes",
        "use MooncakeConnectorV1, or spread prefill by parallel.tensor alone",
    ),
    Rule(
        "spanning-ports",
        _shifted_ports,
        "decode of MooncakeConnectorV1 finds the nodes of prefill by ports counted from its own {decode}, which leads "
        "to the wrong node when prefill's {devices} ports begin at {prefill}",
        "give kvTransfer.port the same value on both sides, or values at least {devices} apart",
    ),
    Rule(
        "spanning-layerwise",
        _layerwise_decode,
        "prefill of MooncakeLayerwiseConnector looks for all devices of a decode rank on one node",
        "lower parallel.tensor of decode to what a node holds, or use MooncakeConnectorV1",
    ),
)
