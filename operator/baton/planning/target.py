"""What a ModelServing should become, resolved once a plan: no percentages and no absent settings are left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from baton.api.serving import ModelServing, Role, RollingUpdate, RolloutType
from baton.common.quantity import resolve
from baton.planning.model import Desired
from baton.planning.revision import revision_of, role_hashes


@dataclass(frozen=True, slots=True)
class Target:
    """The roles by name in the user's order, the hashes their pods carry, and the limits of a roll-out.

    `partition` counts ServingGroups and is 0 when roles are rolled out one by one.
    """

    serving: ModelServing
    roles: Mapping[str, Role]
    hashes: Mapping[str, str]
    revision: str
    by_role: bool
    max_unavailable: int
    partition: int

    @property
    def name(self) -> str:
        """Name of the ModelServing."""
        return self.serving.metadata.name

    @property
    def replicas(self) -> int:
        """ServingGroups asked for."""
        return self.serving.spec.replicas

    @property
    def has_pods(self) -> bool:
        """Whether a ServingGroup has pods at all; its roles may all be scaled to 0."""
        return any(role.replicas for role in self.roles.values())


def target_of(desired: Desired) -> Target:
    """Resolve a ModelServing."""
    serving = desired.serving
    strategy = serving.spec.rollout_strategy
    by_role = strategy is not None and strategy.type is RolloutType.ROLE
    limits = (strategy and strategy.rolling_update_configuration) or RollingUpdate()
    return Target(
        serving=serving,
        roles={role.name: role for role in desired.roles},
        hashes=role_hashes(desired),
        revision=revision_of(desired),
        by_role=by_role,
        max_unavailable=_at_least_one(limits.max_unavailable, total=serving.spec.replicas),
        partition=0 if by_role else resolve(limits.partition, total=serving.spec.replicas, round_up=True),
    )


def replica_size(role: Role) -> int:
    """Return how many pods a replica of the role has: the entry and its workers."""
    return 1 + (role.worker_replicas or 0)


def role_partition(role: Role) -> int:
    """Return how many replicas of the role keep their template when roles are rolled out one by one."""
    return resolve(role.partition, total=role.replicas, round_up=True)


def role_max_unavailable(role: Role) -> int:
    """Return how many replicas of the role may be down at once when roles are rolled out one by one."""
    return _at_least_one(role.max_unavailable, total=role.replicas)


def _at_least_one(amount: int | str, *, total: int) -> int:
    """Resolve maxUnavailable. A percentage that `kubectl scale` has turned into 0 must not stop a roll-out for good."""
    return max(1, resolve(amount, total=total))
