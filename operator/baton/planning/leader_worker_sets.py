"""LeaderWorkerSets served as ModelServings: the translation of the spec, and of the status back.

A group becomes a ServingGroup with one replica of the role `default`: the leader is its entry pod. The variables of
LeaderWorkerSets are there under their own names, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baton.api import labels
from baton.api.leader_worker_set import (
    RESTART_NONE,
    STARTUP_LEADER_READY,
    LeaderWorkerSet,
    LeaderWorkerSetRollingUpdate,
)
from baton.api.meta import Condition, JsonObject
from baton.api.plugins import LWS_LABELS
from baton.api.serving import DEFAULT_SCHEDULER, ModelServing, PodTemplate, RecoveryPolicy, RolloutType
from baton.planning.status import AVAILABLE

ROLE: Final = "default"
BRIDGED: Final = "Bridged"
"""Condition of a LeaderWorkerSet: whether a ModelServing stands for it."""

_ENVIRONMENT: Final = {
    "LWS_LEADER_ADDRESS": labels.ENVIRONMENT_ENTRY_ADDRESS,
    "LWS_GROUP_SIZE": labels.ENVIRONMENT_GROUP_SIZE,
    "LWS_WORKER_INDEX": labels.ENVIRONMENT_WORKER_INDEX,
}
"""The variables of LeaderWorkerSets and those of ModelServings that hold the same."""


def serving_of(wanted: LeaderWorkerSet) -> JsonObject:
    """Return the ModelServing that stands for a LeaderWorkerSet, with every field that it decides on."""
    spec, group = wanted.spec, wanted.spec.leader_worker_template
    worker = group.worker_template
    leader = group.leader_template or worker
    rollout = spec.rollout_strategy and spec.rollout_strategy.rolling_update_configuration
    limits = rollout or LeaderWorkerSetRollingUpdate()
    owner = {
        "apiVersion": f"{labels.LEADER_WORKER_SET_GROUP}/v1",
        "kind": "LeaderWorkerSet",
        "name": wanted.metadata.name,
        "uid": wanted.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    role = {
        "name": ROLE,
        "replicas": 1,
        "workerReplicas": group.size - 1,
        "entryTemplate": _template(leader),
        "workerTemplate": _template(worker),
    }
    return {
        "apiVersion": labels.WORKLOAD_API_VERSION,
        "kind": "ModelServing",
        "metadata": {
            "name": wanted.metadata.name,
            "namespace": wanted.metadata.namespace,
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": spec.replicas,
            "schedulerName": leader.spec.get("schedulerName") or DEFAULT_SCHEDULER,
            "plugins": [{"name": LWS_LABELS}],
            "template": {"roles": [role]},
            "rolloutStrategy": {
                "type": RolloutType.SERVING_GROUP.value,
                "rollingUpdateConfiguration": {
                    "maxUnavailable": limits.max_unavailable,
                    "partition": limits.partition,
                },
            },
            "recoveryPolicy": (
                RecoveryPolicy.NONE if group.restart_policy == RESTART_NONE else RecoveryPolicy.ROLE
            ).value,
        },
    }


def is_current(present: ModelServing, wanted: ModelServing) -> bool:
    """Whether a ModelServing is as it should be in all that the LeaderWorkerSet decides on; the rest is the user's."""
    fields = ("replicas", "scheduler_name", "plugins", "rollout_strategy", "recovery_policy")
    is_equal = all(getattr(present.spec, field) == getattr(wanted.spec, field) for field in fields)
    return is_equal and present.spec.template.roles == wanted.spec.template.roles


def bridged(wanted: LeaderWorkerSet) -> Condition:
    """Return the condition of a LeaderWorkerSet that a ModelServing stands for, with what has no effect there."""
    message = f"ModelServing {wanted.metadata.name} stands for it"
    ignored = ", ".join(_ignored(wanted))
    message += f"; without effect: {ignored}" if ignored else ""
    return Condition(type=BRIDGED, status="True", reason="Bridged", message=message)


def counters_of(serving: ModelServing) -> JsonObject:
    """Return the status of a LeaderWorkerSet as far as it consists of numbers and selectors."""
    status = serving.status
    return {
        "replicas": status.replicas,
        "readyReplicas": status.available_replicas,
        "updatedReplicas": status.updated_replicas,
        "hpaPodSelector": status.label_selector,
    }


def conditions_of(serving: ModelServing) -> list[Condition]:
    """Return what `kubectl wait` of a LeaderWorkerSet looks at."""
    return [
        condition.model_copy(update={"reason": condition.reason or AVAILABLE})
        for condition in serving.status.conditions
        if condition.type == AVAILABLE
    ]


def _template(template: PodTemplate) -> JsonObject:
    document = template.document()
    for field in ("containers", "initContainers"):
        if document["spec"].get(field):
            document["spec"][field] = [_with_environment(container) for container in document["spec"][field]]
    return document


def _with_environment(container: JsonObject) -> JsonObject:
    ours = [{"name": name, "value": f"$({source})"} for name, source in _ENVIRONMENT.items()]
    own = [entry for entry in container.get("env") or [] if entry["name"] not in _ENVIRONMENT]
    return {**container, "env": [*ours, *own]}


def _ignored(wanted: LeaderWorkerSet) -> Iterator[str]:
    spec, group = wanted.spec, wanted.spec.leader_worker_template
    if group.sub_group_policy is not None:
        yield "spec.leaderWorkerTemplate.subGroupPolicy"
    if group.volume_claim_templates:
        yield "spec.leaderWorkerTemplate.volumeClaimTemplates"
    if spec.startup_policy == STARTUP_LEADER_READY:
        yield f"spec.startupPolicy {STARTUP_LEADER_READY}"
    rollout = spec.rollout_strategy and spec.rollout_strategy.rolling_update_configuration
    if rollout and rollout.max_surge not in {0, "0%"}:
        yield "spec.rolloutStrategy.rollingUpdateConfiguration.maxSurge"
