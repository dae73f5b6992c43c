"""Half an hour of what users, pods and networks do to an operator, at speed, on a local control plane: no containers.

`BATON_SEED` draws other operations; the seed is printed first, then every operation before it is done.
"""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from baton.kube.client import Client
from baton.kube.errors import NotFound
from baton.kube.resources import CONFIG_MAPS, MODEL_ROUTES, MODEL_SERVINGS, POD_GROUPS, PODS, SERVICES
from baton.kube.types import Resource
from e2e.operations import TYPED, Kind, Operation, draw, edited, first_servings, without_partition
from faulty_proxy import FaultyProxy
from invariants import owner_of, untouched
from mortal_operator import MortalOperator
from operator_process import Machine, control_plane
from pod_observer import PodObserver
from user import PATIENCE, User

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from builders import ServingBuilder
    from mortal_operator import Memory

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OPERATIONS = 360
"""One every five seconds, for half an hour."""
PAUSE = 0.4
"""Seconds between two operations at most: more than one falls into every roll-out."""
TIME = 150.0
"""Seconds after which a slow machine has done enough operations."""
FAULTS = 0.01
GROWTH = 12 << 20
"""Bytes that half of a soak may add, a tenth: with nothing kept, 1 to 5 MB of holes in what the allocator holds."""
OBJECTS = 1000
"""Objects that it may add, of 118,000: nothing is kept of an operation but the names of new pods and counts of events,
and one object a reconcile would be 2,000."""
FOREIGN = "groups-0-decode-7-0"
"""A pod that looks like one of ours and is not."""
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
CHILDREN = (PODS, SERVICES, CONFIG_MAPS, CONTROLLER_REVISIONS, POD_GROUPS)
POD_GROUP_DEFINITION = Path(__file__).parents[1] / "data" / "crds" / "podgroups.yaml"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with control_plane("soak", tmp_path_factory.mktemp("state")) as made:
        made.kubectl.run("apply", f"--filename={POD_GROUP_DEFINITION}")
        made.kubectl.run("wait", "--for=condition=Established", f"--filename={POD_GROUP_DEFINITION}")
        yield made


class Soak:
    """The users' side of a soak: what they applied last, by name; what they deleted is not there."""

    def __init__(self, user: User, proxy: FaultyProxy, operator: MortalOperator, observer: PodObserver) -> None:
        self.builders: dict[str, ServingBuilder] = {}
        self._user = user
        self._proxy = proxy
        self._operator = operator
        self._observer = observer
        self._acts: dict[Kind, Callable[[Operation], Coroutine[Any, Any, None]]] = {
            Kind.EDIT: self._edit,
            Kind.PARTITION: self._edit,
            Kind.DELETE_POD: self._harm_pod,
            Kind.FAIL_POD: self._harm_pod,
            Kind.DELETE_SERVING: self._delete,
            Kind.SWITCH_ROUTE: self._switch_route,
            Kind.WRITE_STATUS: self._write_status,
            Kind.BREAK_WATCHES: self._break_watches,
            Kind.KILL_OPERATOR: self._kill_operator,
        }

    async def apply(self, builders: Iterable[ServingBuilder]) -> None:
        for builder in builders:
            self.builders[builder.metadata["name"]] = builder
            await self._user.apply(builder)

    async def perform(self, operations: list[Operation], *, seconds: float) -> int:
        """Perform operations until the time is over; return how many."""
        self._proxy.rate = FAULTS
        end = time.monotonic() + seconds
        done = 0
        for done, operation in enumerate(operations, start=1):  # noqa: B007 # told below
            print(operation)
            await self._acts[operation.kind](operation)
            await asyncio.sleep(operation.random.uniform(0, PAUSE))
            if time.monotonic() > end:
                break
        self._proxy.rate, self._proxy.kill = 0.0, None
        return done

    async def settle(self) -> Memory:
        """Wait until all is right as it is, then as it was first; return what the operator holds then."""
        for builders in (self.builders, first_servings()):
            await self.apply([without_partition(builder) for builder in builders.values()])
            await self._user.until_rest(*self.builders.values())
            await self._until_nothing_is_left()
        return await self._operator.memory()

    async def _until_nothing_is_left(self) -> None:
        """Wait until what is gone has left nothing behind, and the route knows its pods."""
        left: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE):
                while left := [*await self._orphans(), *await self._wrong_route()]:  # noqa: ASYNC110 # the server's
                    await asyncio.sleep(1)
        except TimeoutError:
            raise AssertionError("\n".join(["no end of it", *left])) from None
        assert not self._observer.broken, self._observer.report()

    async def _orphans(self) -> list[str]:
        owners = [
            item["metadata"]["uid"]
            for kind in (MODEL_SERVINGS, MODEL_ROUTES, CONFIG_MAPS)
            for item in await self._user.items(kind)
        ]
        uids = {"", *owners}
        return [
            f"{kind.kind} {item['metadata']['name']} has lost its owner"
            for kind in CHILDREN
            for item in await self._user.items(kind)
            if owner_of(item) not in uids
        ]

    async def _wrong_route(self) -> list[str]:
        """Return what the route says, if it does not count all pods that it leads to."""
        pods = [name for name in self._observer.pods if name.startswith(f"{TYPED}-")]
        routes = await self._user.items(MODEL_ROUTES)
        said = [
            condition["message"]
            for route in routes
            for condition in (route.get("status") or {}).get("conditions") or []
            if condition["type"] == "Programmed"
        ]
        if not routes or not pods or any(f"serving/{TYPED}: {len(pods)}" in message for message in said):
            return []
        return [f"the route of {len(pods)} pods says {said}"]

    async def _edit(self, operation: Operation) -> None:
        builder = self.builders.get(operation.name)
        await self.apply([first_servings()[operation.name] if builder is None else edited(builder, operation)])

    async def _harm_pod(self, operation: Operation) -> None:
        act = self._user.fail if operation.kind is Kind.FAIL_POD else self._user.delete_pod
        if pods := sorted(self._observer.pods.keys() - {FOREIGN}):
            await act(pods[operation.seed % len(pods)])

    async def _delete(self, operation: Operation) -> None:
        self.builders.pop(operation.name, None)
        await self._user.delete(MODEL_SERVINGS, operation.name)

    async def _switch_route(self, operation: Operation) -> None:
        """Take the route away, or put it there."""
        try:
            await self._user.client.delete(MODEL_ROUTES, self._user.namespace, TYPED)
        except NotFound:
            metadata = {"name": TYPED, "namespace": self._user.namespace}
            spec = {"modelName": TYPED, "rules": [{"targetModels": [{"modelServingName": TYPED}]}]}
            await self._user.client.create(MODEL_ROUTES, {"metadata": metadata, "spec": spec})

    async def _write_status(self, operation: Operation) -> None:
        """Write what is not so, as a second operator would."""
        status = {"replicas": 99, "availableReplicas": 98, "observedGeneration": 97, "labelSelector": "a=b"}
        if operation.name in self.builders:
            client, namespace = self._user.client, self._user.namespace
            await client.patch_status(MODEL_SERVINGS, namespace, operation.name, status)

    async def _break_watches(self, operation: Operation) -> None:
        self._proxy.break_watches()

    async def _kill_operator(self, operation: Operation) -> None:
        self._operator.kill_at(operation.random.randint(1, 10), is_sent=operation.seed % 2 == 0)


async def test_half_an_hour_of_everything_ends_as_wanted_and_leaves_the_memory_flat(
    machine: Machine, tmp_path: Path
) -> None:
    seed = int(os.environ.get("BATON_SEED", "1"))
    print(f"BATON_SEED={seed}")
    kubeconfig = machine.control_plane.kubeconfig
    async with (
        FaultyProxy(kubeconfig, tmp_path / "kubeconfig", Random(seed)) as proxy,
        await Client.from_kubeconfig(str(kubeconfig)) as client,
        asyncio.TaskGroup() as group,
    ):
        user = User(client, "default", has_pod_groups=True)
        operator = MortalOperator(proxy, tmp_path)
        stranger = await user.place_foreign(FOREIGN, serving="groups")
        observer = PodObserver(client, user.namespace, partial(untouched, name=FOREIGN, owner=stranger))
        tasks = [group.create_task(operator.run()), group.create_task(observer.run())]
        soak = Soak(user, proxy, operator, observer)
        operator.kill_at(5, is_sent=False)  # one kill is sure, however slow this machine is
        await soak.apply(first_servings().values())
        half = OPERATIONS // 2
        done = await soak.perform(draw(seed, half, has_kills=True), seconds=TIME / 2)
        before, starts = await soak.settle(), operator.starts
        done += await soak.perform(draw(seed + 1, OPERATIONS - half, has_kills=False), seconds=TIME / 2)
        after = await soak.settle()
        for task in tasks:
            task.cancel()
    print(f"{done} operations, {proxy.faults} faults, {starts - 1} kills; {before} in the middle, {after} in the end")
    assert starts > 1
    assert operator.starts == starts, "it lived through the second half"
    assert after.resident - before.resident < GROWTH
    assert after.objects - before.objects < OBJECTS
    assert "Traceback" not in operator.log.read_text(), operator.log.read_text()
