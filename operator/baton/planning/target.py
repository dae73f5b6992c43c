"""What a ModelServing should become, resolved once a plan: no percentages and no absent settings are left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from baton.api.serving import ModelServing, Role, RollingUpdate, RolloutType
from baton.common.quantity import resolve
from baton.planning.model import Desired, RevisionView, RoleTemplate, Template
from baton.planning.revision import template_of


@dataclass(frozen=True, slots=True)
class Target:
    """The template by role in the user's order, those of older revisions, and the limits of a roll-out.

    `base` is the template of what a roll-out must not reach and has no pods that tell theirs: that of the current
    revision. In all templates the numbers of replicas are the present ones. `partition` counts ServingGroups and is 0
    when roles are rolled out one by one.
    """

    serving: ModelServing
    template: Template
    roles: Mapping[str, Role]
    hashes: Mapping[str, str]
    history: Mapping[str, Template]
    base: Template
    by_role: bool
    paused: bool
    max_surge: int
    max_unavailable: int
    partition: int

    @property
    def name(self) -> str:
        """Name of the ModelServing."""
        return self.serving.metadata.name

    @property
    def revision(self) -> str:
        """Revision of the present template."""
        return self.template.revision

    @property
    def replicas(self) -> int:
        """ServingGroups asked for."""
        return self.serving.spec.replicas

    def differs_from(self, roles: Iterable[RoleTemplate]) -> bool:
        """Whether a group of these roles lacks one of the present template, has it otherwise, or has another."""
        hashes = {
            entry.role.name: entry.hash for entry in roles if entry.role.replicas or entry.role.name in self.roles
        }
        return hashes != self.hashes

    @property
    def has_pods(self) -> bool:
        """Whether a ServingGroup has pods at all; its roles may all be scaled to 0."""
        return _has_pods(self.template)


def target_of(desired: Desired, revisions: Iterable[RevisionView] = ()) -> Target:
    """Resolve a ModelServing. Revisions of other owners are left out."""
    serving = desired.serving
    template = template_of(desired)
    history = _history(template, [view for view in revisions if view.owner_uid == serving.metadata.uid])
    former = history.get(serving.status.current_revision)
    strategy = serving.spec.rollout_strategy
    by_role = strategy is not None and strategy.type is RolloutType.ROLE
    limits = (strategy and strategy.rolling_update_configuration) or RollingUpdate()
    max_surge = 0 if by_role else resolve(limits.max_surge, total=serving.spec.replicas, round_up=True)
    max_unavailable = resolve(limits.max_unavailable, total=serving.spec.replicas)
    return Target(
        serving=serving,
        template=template,
        roles={name: entry.role for name, entry in template.roles.items()},
        hashes={name: entry.hash for name, entry in template.roles.items()},
        history=history,
        base=former if former is not None and _has_pods(former) else template,
        by_role=by_role,
        paused=serving.spec.paused,
        max_surge=max_surge,
        # A percentage that `kubectl scale` has turned into 0 must not stop a roll-out for good.
        max_unavailable=max_unavailable if max_surge else max(1, max_unavailable),
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
    return max(1, resolve(role.max_unavailable, total=role.replicas))


def _history(present: Template, revisions: Iterable[RevisionView]) -> dict[str, Template]:
    """Return all templates by revision. What is no part of a revision is as in the present one."""
    history = {
        view.revision: _rescaled(view.template, present) for view in revisions if view.template and not view.deleting
    }
    history[present.revision] = present
    return history


def _has_pods(template: Template) -> bool:
    return any(entry.role.replicas for entry in template.roles.values())


def _rescaled(template: Template, present: Template) -> Template:
    """Give the roles the present scale. One that had no replicas comes with the present template only."""
    roles = dict(template.roles)
    for name, entry in roles.items():
        if name in present.roles and entry.role.replicas:
            role = present.roles[name].role
            scale = {"replicas": role.replicas, "max_unavailable": role.max_unavailable, "partition": role.partition}
            roles[name] = replace(entry, role=entry.role.model_copy(update=scale))
    return replace(template, roles=roles)
