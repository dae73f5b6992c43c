"""What happens during a soak, drawn from a seed: the same seed gives the same operations, whatever the cluster does.

Carries out nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

from builders import serving
from edits import edit

if TYPE_CHECKING:
    from builders import ServingBuilder

TYPED = "typed"
_MODEL = {"path": "/models/m"}


class Kind(StrEnum):
    EDIT = "edit"
    PARTITION = "partition"
    DELETE_POD = "delete-pod"
    FAIL_POD = "fail-pod"
    DELETE_SERVING = "delete-serving"
    SWITCH_ROUTE = "switch-route"
    WRITE_STATUS = "write-status"
    BREAK_WATCHES = "break-watches"
    KILL_OPERATOR = "kill-operator"


_WEIGHTS = {
    Kind.EDIT: 40,
    Kind.PARTITION: 6,
    Kind.DELETE_POD: 15,
    Kind.FAIL_POD: 15,
    Kind.DELETE_SERVING: 4,
    Kind.SWITCH_ROUTE: 8,
    Kind.WRITE_STATUS: 6,
    Kind.BREAK_WATCHES: 3,
    Kind.KILL_OPERATOR: 3,
}


@dataclass(frozen=True)
class Operation:
    """One thing to do to a ModelServing, or around it. `seed` decides on its details."""

    number: int
    kind: Kind
    name: str
    seed: int

    @property
    def random(self) -> Random:
        """A random source for the details, the same each time."""
        return Random(self.seed)

    def __str__(self) -> str:
        return f"{self.number} {self.kind} {self.name} {self.seed}"


def first_servings() -> dict[str, ServingBuilder]:
    """Return the ModelServings to begin with, by name: every way to roll out, to recover, to be placed and written."""
    scheduler = "default-scheduler"
    raw = [
        serving("groups", replicas=2, schedulerName=scheduler)
        .rollout(maxUnavailable=1)
        .recovery("ServingGroupRecreate"),
        serving("roles", replicas=2, schedulerName=scheduler).rollout_by_role().recovery("RoleRecreate"),
        serving("gang", replicas=2, schedulerName="volcano"),
    ]
    pairs = [builder.role("prefill", workers=1).role("decode", replicas=2) for builder in raw]
    typed = serving(TYPED, replicas=2, schedulerName=scheduler)
    typed = typed.typed_role("server", replicas=2, image="engine:1", model=_MODEL)
    return {builder.metadata["name"]: builder for builder in (*pairs, typed)}


def draw(seed: int, count: int, *, has_kills: bool) -> list[Operation]:
    """Draw `count` operations; without kills the operator lives through them."""
    random = Random(seed)
    kinds = [kind for kind in Kind if has_kills or kind is not Kind.KILL_OPERATOR]
    chosen = random.choices(kinds, weights=[_WEIGHTS[kind] for kind in kinds], k=count)
    names = random.choices(list(first_servings()), k=count)
    return [
        Operation(number, kind, name, random.getrandbits(32))
        for number, (kind, name) in enumerate(zip(chosen, names, strict=True), start=1)
    ]


def edited(builder: ServingBuilder, operation: Operation) -> ServingBuilder:
    """Return what a user makes of a ModelServing."""
    random = operation.random
    if operation.kind is Kind.PARTITION:
        return builder.rollout(maxUnavailable=random.randint(1, 2), partition=random.randint(0, 2))
    if builder.metadata["name"] != TYPED:
        return edit(builder, random)
    if random.random() < 0.5:
        return builder.replicas(random.randint(0, 3))
    image = f"engine:{random.randint(1, 3)}"
    return builder.typed_role("server", replicas=random.randint(1, 3), image=image, model=_MODEL)


def without_partition(builder: ServingBuilder) -> ServingBuilder:
    """Return it with nothing protected from a roll-out: what is wanted of it is then known without its history."""
    return builder.rollout(maxUnavailable=1) if builder.metadata["name"] != "roles" else builder.rollout_by_role()
