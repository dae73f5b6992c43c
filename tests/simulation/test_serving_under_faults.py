"""The operator's own reconciler in a world that goes wrong: lost calls and answers, late and repeated events, kills.

Each seed is a story of its own. `BATON_SEED=17 pytest tests/simulation` tells one again; a failure prints it.
`BATON_SEEDS=200` tells that many.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

import virtual_time
from baton.kube.resources import MODEL_SERVINGS, POD_GROUPS, PODS, SERVICES
from baton.planning.naming import slot_of
from builders import ServingBuilder, serving
from edits import edit, edit_gently
from invariants import Availability, Children, counts_wrong, differences, doubles, partition_of
from simulation.actors import Operator
from simulation.world import NAMESPACE, Kubelet, World, ready

if TYPE_CHECKING:
    from builders import JsonObject

SEEDS = (
    [int(os.environ["BATON_SEED"])] if "BATON_SEED" in os.environ else range(int(os.environ.get("BATON_SEEDS", "4")))
)
TROUBLE = 40.0
"""Virtual seconds for which things go wrong."""
PATIENCE = 900.0
"""Virtual seconds within which all is well afterwards; a retry waits 300 at most."""
LAG = 0.5
FOREIGN = "demo-0-decode-7-0"
"""A pod that looks like one of ours and is not."""


class Story:
    """A world, its operators, and what went against the rules."""

    def __init__(self, seed: int, builder: ServingBuilder, *, is_gentle: bool) -> None:
        self.random = Random(seed)
        self.world = World()
        self.builder = builder.with_metadata(namespace=NAMESPACE)
        self.is_gentle = is_gentle
        """Whether pods fail only by the operator's hand, so that its budgets can be held against what runs."""
        self.broken: list[str] = []
        self.edits = 0
        self._rate = 0.1
        is_by_group = "rollingUpdateConfiguration" in builder.spec.get("rolloutStrategy", {})
        self._availability = Availability(most_groups=2) if is_by_group else Availability(most_replicas=1)

    # what the user does

    def apply(self, builder: ServingBuilder) -> None:
        self.builder = builder
        document = builder.document()
        self.edits += 1
        if "demo" in self.world.all(MODEL_SERVINGS):
            self.world.patch(MODEL_SERVINGS, "demo", {"spec": {**document["spec"], "template": None}})
            self.world.patch(MODEL_SERVINGS, "demo", {"spec": document["spec"]})
        else:
            self.world.create(MODEL_SERVINGS, document)
        images = {role["name"]: role["entryTemplate"]["spec"]["containers"][0]["image"] for role in builder.roles}
        self.world.note(f"user applies {images} {builder.spec}")

    def _disturb_pod(self) -> None:
        names = sorted(self.world.all(PODS).keys() - {FOREIGN})
        if not names:
            return
        name = self.random.choice(names)
        what = self.random.choice(["fail", "restart", "delete", "vanish"])
        self.world.note(f"{name}: {what}")
        if what == "fail":
            self.world.patch(PODS, name, {"status": {"phase": "Failed", "conditions": [ready("False")]}})
        elif what == "restart":
            status = {"phase": "Running", "containerStatuses": [{"restartCount": 1}], "conditions": [ready("False")]}
            self.world.patch(PODS, name, {"status": status})
        elif what == "delete":
            self.world.delete(PODS, name, None)
        else:
            self.world.remove(PODS, name)

    # what operators do

    async def operate(self, *, lag: float, until: float | None = None) -> None:
        """Run operators one after the other, each killed at any moment; the last one lives on unless it has an end."""
        loop = asyncio.get_running_loop()
        while until is None or loop.time() < until:
            operator = Operator(self.world, self.random, lag=lag, check=self._check_delete)
            operator.client.rate = self._rate
            end = TROUBLE if until is None else until
            life = self.random.uniform(0.5, 15) if loop.time() < end else None
            self.world.note("an operator starts")
            async with asyncio.TaskGroup() as group:
                process = group.create_task(operator.run())
                if life is not None:
                    await asyncio.sleep(life)
                    process.cancel()
            self.world.note("an operator is killed")

    def _check_delete(self, operator: Operator, pod: JsonObject) -> None:
        name, known = pod["metadata"]["name"], operator.known
        slot = slot_of("demo", name)
        if pod["metadata"]["ownerReferences"][0]["uid"] != "uid-of-demo" or slot is None or known is None:
            self.broken.append(f"{name} is not the operator's to delete")
        elif self.is_gentle and slot.group < partition_of(known):
            self.broken.append(f"{name} is protected and deleted")

    # what must always hold

    def check(self) -> None:
        self.broken += doubles(self.world.all(PODS).values())
        if self.is_gentle:
            self.broken += self._availability.breaches(self.builder.build(), self._pods())
        if self.broken:
            raise AssertionError("\n".join([*self.broken, *self.world.trace[-60:]]))

    def is_at_rest(self) -> bool:
        """Whether all is as wanted, by the API server's word and by what is there."""
        wanted = self.builder.build()
        found = self.world.get(MODEL_SERVINGS, "demo")
        return not counts_wrong(found) and not differences(wanted, self._children())

    def _pods(self) -> dict[str, JsonObject]:
        return {name: pod for name, pod in self.world.all(PODS).items() if name != FOREIGN}

    def _children(self) -> Children:
        services, pod_groups = (frozenset(self.world.all(kind)) for kind in (SERVICES, POD_GROUPS))
        return Children(self._pods(), services, pod_groups)

    # the course of events

    async def tell(self, *, has_rival: bool) -> None:
        self.apply(self.builder)
        owner = {"kind": "ModelServing", "name": "demo", "uid": "somebody-else", "controller": True}
        metadata = {"name": FOREIGN, "namespace": NAMESPACE, "ownerReferences": [owner]}
        self.world.create(PODS, {"metadata": metadata, "spec": {}})
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(Kubelet(self.world, self.random).run()),
                group.create_task(self.operate(lag=LAG)),
            ]
            if has_rival:  # one that does not know yet that it leads no more, and hears everything late
                tasks.append(group.create_task(self.operate(lag=10 * LAG, until=TROUBLE)))
            await self._trouble()
            self._rate = 0.0
            await self._until_rest()
            await self._stay_at_rest()
            for task in tasks:
                task.cancel()

    async def _trouble(self) -> None:
        loop = asyncio.get_running_loop()
        next_event = 10.0
        while loop.time() < TROUBLE:
            await asyncio.sleep(0.05)
            self.check()
            if loop.time() < next_event:
                continue
            next_event = loop.time() + self.random.uniform(0.5, 8)
            if self.is_gentle:
                self.apply(edit_gently(self.builder, self.random))
            elif self.random.random() < 0.5:
                self.apply(edit(self.builder, self.random))
            else:
                self._disturb_pod()

    async def _until_rest(self) -> None:
        before = len(self.world.created)
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not self.is_at_rest():
            await asyncio.sleep(0.5)
            self.check()
            if asyncio.get_running_loop().time() > deadline:
                status = self.world.get(MODEL_SERVINGS, "demo").get("status")
                wrong = differences(self.builder.build(), self._children())
                raise AssertionError("\n".join(["no end of it", *wrong, str(status), *self.world.trace[-60:]]))
        most = Counter(self.world.created[before:]).most_common(1)
        assert not most or most[0][1] <= 3, f"created again and again: {most}"

    async def _stay_at_rest(self) -> None:
        await asyncio.sleep(30)  # late events come in, which change nothing
        writes = self.world.writes
        await asyncio.sleep(400)
        assert self.world.writes == writes, "\n".join(["it writes though all is well", *self.world.trace[-20:]])
        self.check()
        assert FOREIGN in self.world.all(PODS)


def tell(seed: int, builder: ServingBuilder, *, is_gentle: bool, has_rival: bool = False) -> Story:
    story = Story(seed, builder, is_gentle=is_gentle)
    try:
        virtual_time.run(story.tell(has_rival=has_rival))
    except BaseExceptionGroup as failure:
        raise AssertionError(f"seed {seed}: BATON_SEED={seed} tells it again\n{failure.exceptions[0]}") from failure
    return story


PAIR = serving(replicas=3).role("prefill", workers=1).role("decode", replicas=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_roll_out_keeps_its_budget_and_its_hands_off_what_is_protected(seed: int) -> None:
    story = tell(seed, PAIR.rollout(maxUnavailable=1, partition=0), is_gentle=True)
    most = Counter(story.world.created).most_common(1)[0]
    assert most[1] <= story.edits, f"{most} for {story.edits} edits: BATON_SEED={seed} tells it again"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_roll_out_by_role_takes_one_replica_of_a_role_at_a_time(seed: int) -> None:
    builder = PAIR.replicas(2).role("prefill", replicas=2, workers=1).rollout_by_role()
    story = tell(seed, builder, is_gentle=True)
    most = Counter(story.world.created).most_common(1)[0]
    assert most[1] <= story.edits, f"{most} for {story.edits} edits: BATON_SEED={seed} tells it again"


@pytest.mark.parametrize("policy", ["RoleRecreate", "ServingGroupRecreate", "None"])
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_fails_and_whatever_the_user_does_all_is_well_in_the_end(seed: int, policy: str) -> None:
    tell(seed, PAIR.replicas(2).recovery(policy), is_gentle=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_operator_that_should_have_stopped_does_no_lasting_harm(seed: int) -> None:
    tell(seed, PAIR.replicas(2), is_gentle=False, has_rival=True)
