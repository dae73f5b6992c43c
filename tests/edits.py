"""What users do to a ModelServing, as pure functions of it and of a random source. Simulation and tests share them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from builders import ServingBuilder


def edit_gently(builder: ServingBuilder, random: Random, *, partitions: Sequence[int] = (0, 1, 2)) -> ServingBuilder:
    """Change what restarts pods, and limits, but no size: what is available stays comparable."""
    role = random.choice(builder.roles)
    shape = {"replicas": role["replicas"], "workers": role["workerReplicas"]}
    builder = builder.role(role["name"], image=f"engine:{random.randint(1, 3)}", **shape)
    if "rollingUpdateConfiguration" in builder.spec["rolloutStrategy"]:
        limits = {"maxUnavailable": random.randint(1, 2), "partition": random.choice(partitions)}
        builder = builder.rollout(**limits)
    return builder


def edit(builder: ServingBuilder, random: Random) -> ServingBuilder:
    """Scale groups or roles, add or remove a role, or change an image."""
    roles = {role["name"]: role for role in builder.roles}
    if random.random() < 0.5:
        return builder.replicas(random.randint(0, 3))
    name = random.choice([*roles, "router"])
    if name in roles and len(roles) > 1 and random.random() < 0.3:
        return builder.without_role(name)
    shape = {"replicas": random.randint(1, 3), "workers": random.randint(0, 1)}
    return builder.role(name, image=f"engine:{random.randint(1, 3)}", **shape)
