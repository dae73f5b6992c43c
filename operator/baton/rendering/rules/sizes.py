"""Rules on how a role replica is spread over nodes and devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baton.rendering.rules.rule import Finding, Group, Rule, found


def _decode_context(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        tensor, context = role.plan.sizes.tensor, role.plan.decode_context
        if tensor % context:
            yield found(role.path("parallel.decodeContext"), tensor=tensor, context=context)


def _too_many_ranks(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        plan = role.plan
        if not plan.spans_nodes and plan.devices_per_node < plan.devices_per_pod:
            yield found(
                role.path("parallel.dataLocal"),
                ranks=plan.ranks_per_node,
                devices=plan.devices_per_pod,
                have=plan.devices_per_node,
                fit=plan.devices_per_node // plan.sizes.devices_per_rank,
            )


def _uneven(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        plan = role.plan
        if plan.nodes // plan.nodes_per_rank * plan.ranks_per_node != plan.sizes.data:
            yield found(role.path("parallel.data"), data=plan.sizes.data, nodes=plan.nodes, ranks=plan.ranks_per_node)


def _other_worker_replicas(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        written = role.role.worker_replicas
        if written is not None and written != role.plan.nodes - 1:
            yield found(
                f"spec.template.roles[{role.index}].workerReplicas",
                written=written,
                computed=role.plan.nodes - 1,
                nodes=role.plan.nodes,
            )


RULES: Final = (
    Rule(
        "decode-context",
        _decode_context,
        "decodeContext {context} does not divide tensor {tensor}, whose devices it shares",
        "choose parallel.decodeContext as a divisor of parallel.tensor",
    ),
    Rule(
        "devices",
        _too_many_ranks,
        "{ranks} DP ranks on a node take {devices} devices, but a node has {have}",
        "lower parallel.dataLocal to at most {fit}",
    ),
    Rule(
        "uneven",
        _uneven,
        "{data} DP ranks do not spread evenly over {nodes} nodes with {ranks} ranks each",
        "choose parallel.data as a multiple of the ranks on a node, or set parallel.dataLocal to a divisor of it",
    ),
    Rule(
        "worker-replicas",
        _other_worker_replicas,
        "workerReplicas is {written}, but the parallel sizes need {nodes} nodes, which are {computed} workers",
        "remove workerReplicas, it is computed",
    ),
)
