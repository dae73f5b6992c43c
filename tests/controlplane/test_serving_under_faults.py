"""The stories of tests/simulation on a real API server: an operator that is killed between two writes, calls and
answers that are lost, watches that break, and a user who changes the spec in the middle of a roll-out.

An observer of its own sees every state of the pods. `BATON_SEED` tells another story; a failure names its seed.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest

from baton.kube.client import Client
from baton.kube.types import Resource
from builders import serving
from edits import edit, edit_gently
from faulty_proxy import FaultyProxy
from invariants import Availability, is_leaving, untouched
from mortal_operator import MortalOperator
from operator_process import Machine, control_plane
from pod_observer import PodObserver
from user import User

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from builders import ServingBuilder
    from invariants import Pods

pytestmark = [pytest.mark.controlplane, pytest.mark.slow]

SEED = int(os.environ.get("BATON_SEED", "1"))
FAULTS = 0.05
EDITS = 5
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
FOREIGN = "demo-0-decode-7-0"
"""A pod that looks like one of ours and is not."""
PAIR = serving(replicas=3, schedulerName="default-scheduler").role("prefill", workers=1).role("decode", replicas=2)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with control_plane("faults", tmp_path_factory.mktemp("state")) as made:
        yield made


class Story:
    """A user, an operator that things happen to, and an observer of what comes of it."""

    def __init__(
        self, user: User, proxy: FaultyProxy, operator: MortalOperator, builder: ServingBuilder, *, stranger: str
    ) -> None:
        self.random = Random(SEED)
        self.user = user
        self.proxy = proxy
        self.operator = operator
        self.builder = builder
        self.applied = 0
        self.checks: list[Callable[[Pods], list[str]]] = [partial(untouched, name=FOREIGN, owner=stranger)]
        self.observer = PodObserver(user.client, user.namespace, self._check)

    def _check(self, pods: Pods) -> list[str]:
        return [breach for check in self.checks for breach in check(pods)]

    async def begin(self) -> None:
        """Apply, and wait until everything serves."""
        await self.apply(self.builder)
        await self.user.until_rest(self.builder)

    async def apply(self, builder: ServingBuilder) -> None:
        self.builder = builder
        self.applied += 1
        await self.user.apply(builder)

    def keep_available(self, availability: Availability) -> None:
        """From now on hold every state against a budget."""
        self.checks.append(lambda pods: availability.breaches(self.builder.build(), pods))

    def protect(self, *beginnings: str) -> Callable[[], None]:
        """From now on let nobody touch the pods whose names begin so; what is returned ends that."""
        names = [name for name in self.pods() if name.startswith(beginnings)]
        uids = {name: self.observer.pods[name]["metadata"]["uid"] for name in names}
        assert uids

        def check(pods: Pods) -> list[str]:
            kept = {name for name in uids if name in pods and not is_leaving(pods[name])}
            same = {name for name in kept if pods[name]["metadata"]["uid"] == uids[name]}
            return [f"{name} is protected and gone" for name in sorted(uids.keys() - same)]

        self.checks.append(check)
        return lambda: self.checks.remove(check)

    def trouble(self) -> None:
        """Arrange for a kill between two of the next writes, and perhaps break all watches."""
        self.proxy.rate = FAULTS
        self.operator.kill_at(self.random.randint(1, 10), is_sent=self.random.random() < 0.5)
        if self.random.random() < 0.5:
            self.proxy.break_watches()

    async def midst(self) -> None:
        """Wait until something of what is to be done is done, however fast this machine is."""
        wanted = len(self.observer.trace) + self.random.randint(1, 15)
        for _ in range(100):
            if len(self.observer.trace) >= wanted:
                return
            await asyncio.sleep(0.1)

    async def end(self) -> None:
        """Let nothing go wrong any more, wait until all is as wanted, and hold all of it against the rules."""
        self.proxy.rate, self.proxy.kill = 0.0, None
        await self.user.until_rest(self.builder)
        self.keep_rules()

    async def stays_at_rest(self) -> None:
        """A new operator finds nothing to write; that it has looked shows another ModelServing."""
        before = len(self.proxy.writes)
        self.operator.kill()
        other = serving("other", schedulerName="default-scheduler").role("decode")
        await self.user.apply(other)
        await self.user.until_rest(other)
        assert [write for write in self.proxy.writes[before:] if "demo" in write] == []
        assert self.operator.starts > 1

    def at_most(self, times: int) -> None:
        """No pod was created more often than that."""
        most = Counter(self.observer.created).most_common(1)[0]
        assert most[1] <= times, f"{most} for {times} edits"

    def keep_rules(self) -> None:
        if self.observer.broken:
            raise AssertionError(self.observer.report())

    def pods(self) -> list[str]:
        return sorted(self.observer.pods.keys() - {FOREIGN})


@asynccontextmanager
async def story(machine: Machine, directory: Path, builder: ServingBuilder) -> AsyncIterator[Story]:
    namespace = f"story-{directory.name.strip('_0123456789').replace('_', '-')}"[:60]
    kubeconfig = machine.control_plane.kubeconfig
    async with (
        FaultyProxy(kubeconfig, directory / "kubeconfig", Random(SEED)) as proxy,
        await Client.from_kubeconfig(str(kubeconfig)) as client,
        asyncio.TaskGroup() as group,
    ):
        await client.create(NAMESPACES, {"metadata": {"name": namespace}})
        operator = MortalOperator(proxy, directory)
        user = User(client, namespace)
        stranger = await user.place_foreign(FOREIGN, serving="demo")
        told = Story(user, proxy, operator, builder, stranger=stranger)
        tasks = [group.create_task(operator.run()), group.create_task(told.observer.run())]
        try:
            yield told
        except AssertionError as failure:
            raise AssertionError(f"BATON_SEED={SEED}\n{failure}") from failure
        finally:
            for task in tasks:
                task.cancel()
    assert "Traceback" not in operator.log.read_text(), operator.log.read_text()


async def test_a_roll_out_keeps_its_budget_and_its_hands_off_what_is_protected(
    machine: Machine, tmp_path: Path
) -> None:
    builder = PAIR.rollout(maxUnavailable=1, partition=1)
    async with story(machine, tmp_path, builder) as told:
        await told.begin()
        told.keep_available(Availability(most_groups=2))
        unprotect = told.protect("demo-0-")
        for _ in range(EDITS):
            told.trouble()
            await told.apply(edit_gently(told.builder, told.random, partitions=(1, 2)))
            await told.midst()
        await told.end()
        unprotect()
        told.trouble()
        await told.apply(told.builder.rollout(maxUnavailable=1, partition=0))
        await told.end()
        told.at_most(told.applied)
        await told.stays_at_rest()


async def test_a_roll_out_by_role_takes_one_replica_of_a_role_at_a_time(machine: Machine, tmp_path: Path) -> None:
    builder = PAIR.replicas(2).role("prefill", replicas=2, workers=1).rollout_by_role()
    async with story(machine, tmp_path, builder) as told:
        await told.begin()
        told.keep_available(Availability(most_replicas=1))
        for _ in range(EDITS):
            told.trouble()
            await told.apply(edit_gently(told.builder, told.random))
            await told.midst()
        await told.end()
        told.at_most(told.applied)


async def test_scaling_to_and_fro_leaves_what_is_wanted_all_the_time_alone(machine: Machine, tmp_path: Path) -> None:
    async with story(machine, tmp_path, PAIR) as told:
        await told.begin()
        unprotect = told.protect("demo-0-")
        for groups in (1, 4, 2, 5, 1, 3):
            told.trouble()
            await told.apply(told.builder.replicas(groups))
            await told.midst()
        await told.end()
        unprotect()
        told.protect(*(f"demo-{group}-{role}-0-" for group in range(3) for role in ("prefill", "decode")))
        for decodes in (1, 3, 2, 4, 1, 2):
            told.trouble()
            await told.apply(told.builder.role("decode", replicas=decodes))
            await told.midst()
        await told.end()
        told.at_most(told.applied)


async def test_whatever_fails_and_whatever_the_user_does_all_is_well_in_the_end(
    machine: Machine, tmp_path: Path
) -> None:
    async with story(machine, tmp_path, PAIR.recovery("ServingGroupRecreate")) as told:
        await told.begin()
        for _ in range(EDITS):
            told.trouble()
            if told.random.random() < 0.5:
                await told.apply(edit(told.builder, told.random))
            elif pods := told.pods():
                await told.random.choice([told.user.fail, told.user.delete_pod])(told.random.choice(pods))
            await told.midst()
        await told.end()
        await told.stays_at_rest()
