"""What is wrong with a role replica or a ServingGroup: pods that failed, and pods that are lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from baton.api.serving import ModelServing, Role
from baton.planning.model import PodView
from baton.planning.state import Group, RoleReplica


@dataclass(frozen=True, slots=True)
class Health:
    """The pods that failed for longer than the grace period, whether a pod is lost, and the grace left, in seconds."""

    failed: tuple[PodView, ...] = ()
    lost: bool = False
    wait: float | None = None


def has_failed(pod: PodView) -> bool:
    """Whether a pod ended, or had to restart a container and is not ready since."""
    if pod.deleting or pod.ready:
        return False
    return pod.phase in {"Failed", "Succeeded"} or (pod.restarted and pod.phase in {"Pending", "Running"})


def examine(replica: RoleReplica, *, grace: timedelta, now: datetime) -> Health:
    """Examine a role replica that does not run.

    A pod is lost when it leaves, or when it is missing although another one is ready: a replica that was never
    complete has no ready pod, and is completed instead.
    """
    failed: list[PodView] = []
    waits: list[float] = []
    for pod in replica.pods:
        if not has_failed(pod):
            continue
        left = _grace_left(pod, grace=grace, now=now)
        if left > 0:
            waits.append(left)
        else:
            failed.append(pod)
    lost = any(pod.deleting or (pod.ready and not replica.complete) for pod in replica.pods)
    return Health(tuple(failed), lost, min(waits, default=None))


def has_lost_replica(serving: ModelServing, group: Group, role: Role, *, staying: Sequence[RoleReplica]) -> bool:
    """Whether a whole replica of the role left the group or vanished.

    A replica that vanished looks like one not created yet, unless all was available before, with the present spec.
    """
    if len(staying) >= role.replicas:
        return False
    if len(staying) < len(group.roles.get(role.name, {})):
        return True
    status = serving.status
    was_available = (
        status.observed_generation == serving.metadata.generation and status.available_replicas == serving.spec.replicas
    )
    return was_available and any(pod.ready for pod in group.pods)


def _grace_left(pod: PodView, *, grace: timedelta, now: datetime) -> float:
    """Return the seconds a failed pod still has; never more than the grace period, should a clock be wrong."""
    if pod.unready_since is None:
        return 0.0
    return min(grace, grace - (now - pod.unready_since)).total_seconds()
