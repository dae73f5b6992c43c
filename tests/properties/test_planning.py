"""Whatever happens to pods and whatever the user changes, in any order: plans keep their promises, and it ends."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from baton.api import labels
from baton.planning.model import ChildKind, Create, Delete, PodView, Update
from baton.planning.naming import slot_of
from baton.planning.plan import plan
from baton.planning.state import Group, Unit, arrange
from baton.planning.target import Target, role_max_unavailable, role_partition, target_of
from builders import ServingBuilder, as_ready, serving
from planned_cluster import Cluster, created, deleted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from baton.planning.model import Action

A = TypeVar("A", Create, Delete)
ROLES = ("prefill", "decode", "router")
few = st.integers(0, 3)
amounts = st.sampled_from([1, 2, "50%"])
group_limits: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"maxUnavailable": amounts},
    optional={"partition": st.sampled_from([1, 2, "50%"]), "maxSurge": st.sampled_from([1, 2, "50%"])},
)
role_limits: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"maxUnavailable": amounts, "partition": st.sampled_from([None, 1])}
)
role_shapes: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"replicas": few, "workers": st.sampled_from([0, 0, 1, 2]), "image": st.sampled_from(["engine:1", "engine:2"])}
)


@st.composite
def servings(draw: st.DrawFn) -> ServingBuilder:
    builder = serving(replicas=draw(st.integers(1, 3))).grace(draw(st.sampled_from([0, 30])))
    by_role = draw(st.booleans())
    builder = builder.rollout_by_role() if by_role else builder.rollout(**draw(group_limits))
    for name in ROLES[: draw(st.integers(1, 2))]:
        builder = builder.role(name, **draw(role_shapes), **(draw(role_limits) if by_role else {}))
    # Admission refuses to recreate groups while roles are rolled out one by one.
    policies = ["None", "RoleRecreate", *([] if by_role else ["ServingGroupRecreate"])]
    return builder.recovery(draw(st.sampled_from(policies)))


class Lifecycle(RuleBasedStateMachine):
    """One ModelServing, its pods, an operator that may die between any two writes, and a user who keeps changing it."""

    cluster: Cluster

    @initialize(builder=servings())
    def begin(self, builder: ServingBuilder) -> None:
        self.cluster = Cluster(builder)

    # what the operator does

    @rule()
    def act(self) -> None:
        self.cluster.step()

    @rule(writes=st.integers(0, 4))
    def act_and_die(self, writes: int) -> None:
        self.cluster.carry_out(self.cluster.plan().actions[:writes])

    # what happens to pods

    @rule()
    def everything_becomes_ready(self) -> None:
        self.cluster.finish_deletions()
        self.cluster.make_ready()

    @rule()
    def deletions_finish(self) -> None:
        self.cluster.finish_deletions()

    @rule(number=st.integers(0, 99))
    def pod_becomes_ready(self, number: int) -> None:
        if pod := self._pod(number):
            self.cluster.pods[pod.name] = as_ready(pod)

    @rule(number=st.integers(0, 99))
    def pod_vanishes(self, number: int) -> None:
        if pod := self._pod(number, deleting=True):
            self.cluster.vanish(pod.name)

    @rule(number=st.integers(0, 99), how=st.sampled_from(["fail", "restart"]))
    def pod_breaks(self, number: int, how: str) -> None:
        if pod := self._pod(number):
            getattr(self.cluster, how)(pod.name)

    @rule(number=st.integers(0, 99))
    def pod_starts_but_is_not_ready(self, number: int) -> None:
        if pod := self._pod(number):
            self.cluster.change(pod.name, phase="Running", ready=False, unready_since=self.cluster.now)

    @rule(seconds=st.sampled_from([1, 29, 30]))
    def time_passes(self, seconds: int) -> None:
        self.cluster.pass_time(seconds)

    @precondition(lambda self: self.cluster.pod_groups is None)
    @rule()
    def volcano_is_installed(self) -> None:
        self.cluster.install_volcano()

    # what the user does

    @rule(number=st.integers(0, 99))
    def user_deletes_pod(self, number: int) -> None:
        if pod := self._pod(number):
            self.cluster.change(pod.name, deleting=True)

    @rule(number=st.integers(0, 99), cost=st.integers(-1, 2))
    def user_sets_deletion_cost(self, number: int, cost: int) -> None:
        if pod := self._pod(number):
            self.cluster.change(pod.name, deletion_cost=cost)

    @rule(replicas=few)
    def user_scales_groups(self, replicas: int) -> None:
        self.cluster.edit(self.cluster.builder.replicas(replicas))

    @rule(name=st.sampled_from(ROLES), shape=role_shapes)
    def user_changes_or_adds_role(self, name: str, shape: dict[str, Any]) -> None:
        self.cluster.edit(self.cluster.builder.role(name, **shape))

    @rule(number=st.integers(0, 99), replicas=few)
    def user_scales_role(self, number: int, replicas: int) -> None:
        roles = self.cluster.builder.roles
        role = {**roles[number % len(roles)], "replicas": replicas}
        self.cluster.edit(self.cluster.builder.with_role(role))

    @rule(is_routed=st.booleans(), busy=st.sampled_from([None, 0, 1]), timeout=st.sampled_from([None, 0, 30]))
    def routes_and_requests_come_and_go(self, *, is_routed: bool, busy: int | None, timeout: int | None) -> None:
        self.cluster.is_routed = is_routed
        uids = [pod.uid for pod in self.cluster.pods.values()]
        self.cluster.in_flight = {} if busy is None else dict.fromkeys(uids, busy)
        self.cluster.edit(self.cluster.builder.with_spec(drainTimeoutSeconds=timeout))

    @rule(paused=st.booleans())
    def user_pauses_or_goes_on(self, *, paused: bool) -> None:
        self.cluster.edit(self.cluster.builder.with_spec(paused=paused))

    @rule(without_unavailable=st.booleans())
    def user_changes_the_limits_of_a_roll_out(self, *, without_unavailable: bool) -> None:
        if "rollingUpdateConfiguration" in self.cluster.builder.spec["rolloutStrategy"]:
            limits = {"maxUnavailable": 0, "maxSurge": 1} if without_unavailable else {"maxUnavailable": 1}
            self.cluster.edit(self.cluster.builder.rollout(**limits))

    @precondition(lambda self: len(self.cluster.builder.roles) > 1)
    @rule(number=st.integers(0, 99))
    def user_removes_role(self, number: int) -> None:
        roles = self.cluster.builder.roles
        self.cluster.edit(self.cluster.builder.without_role(roles[number % len(roles)]["name"]))

    def _pod(self, number: int, *, deleting: bool = False) -> PodView | None:
        names = self.cluster.leaving() if deleting else []
        names += self.cluster.names()
        return self.cluster.pods[names[number % len(names)]] if names else None

    # what always holds

    @invariant()
    def plan_is_the_same_for_any_order_of_what_is_seen(self) -> None:
        desired, seen = self.cluster.builder.desired(), self.cluster.observed()
        pods, services = list(seen.pods), list(seen.services)
        Random(0).shuffle(pods)
        Random(0).shuffle(services)
        shuffled = replace(seen, pods=tuple(pods), services=tuple(services), revisions=seen.revisions[::-1])
        assert plan(desired, seen) == plan(desired, shuffled)

    @invariant()
    def plan_asks_for_nothing_more_once_carried_out(self) -> None:
        after = self.cluster.copy()
        after.is_routed = False
        made = after.step()
        again = after.plan()
        assert again.actions == (), (made.actions, self.cluster.pods)
        if any(action.reason == "it stays after all" for action in made.actions if isinstance(action, Update)):
            return  # pods whose mark is taken back count again at the next look
        before, now = made.status.document(), again.status.document()
        assert {key: (before.get(key), now[key]) for key in now if before.get(key) != now[key]} == {}

    @invariant()
    def what_drains_is_soon_settled(self) -> None:
        after = self.cluster.copy()
        after.in_flight = dict.fromkeys(after.in_flight, 1)
        for _ in range(4):
            if not after.step().actions:
                return
        assert after.plan().actions == ()

    @invariant()
    def plan_never_removes_as_surplus_what_it_then_creates(self) -> None:
        after = self.cluster.copy()
        deletes = deleted(after.step())
        after.finish_deletions()
        if all("surplus" in reason for reason in deletes.values()):
            pods = created(after.plan()).items()
            again = {name for name, pod in pods if labels.SURGE not in pod["metadata"]["labels"]}
            assert deletes.keys().isdisjoint(again), "only a stand-in of another template may follow"

    @invariant()
    def slots_are_filled_once_and_never_beside_predecessors_that_leave(self) -> None:
        creates = [action.name for action in self.cluster.plan().actions if is_pod(action, Create)]
        assert len(creates) == len(set(creates))
        assert self.cluster.pods.keys().isdisjoint(creates)
        leaving, staying = self.cluster.leaving(), self.cluster.names()
        assert {group_of(name) for name in creates}.isdisjoint(
            {group_of(name) for name in leaving} - {group_of(name) for name in staying}
        )
        if self.cluster.builder.spec["recoveryPolicy"] != "None":
            assert {replica_of(name) for name in creates}.isdisjoint(replica_of(name) for name in leaving)

    @invariant()
    def deletes_are_of_own_pods_that_stay_so_far(self) -> None:
        for action in self.cluster.plan().actions:
            if is_pod(action, Delete):
                pod = self.cluster.pods[action.name]
                assert (pod.uid, pod.owner_uid, pod.deleting) == (action.uid, "uid-of-demo", False)

    @invariant()
    def roll_out_keeps_its_budget_and_its_hands_off_protected_ordinals(self) -> None:
        target, groups = self._arranged()
        deletes = deleted(self.cluster.plan())
        if target.by_role:
            for group in groups.values():
                for role in target.roles.values():
                    minimum, partition = role.replicas - role_max_unavailable(role), role_partition(role)
                    check_budget(group.roles.get(role.name, {}), deletes, minimum=minimum, partition=partition)
        elif target.has_pods:
            minimum = target.replicas - target.max_unavailable
            check_budget(groups, deletes, minimum=minimum, partition=target.partition)

    @invariant()
    def no_more_groups_are_created_than_a_roll_out_may_have(self) -> None:
        target, groups = self._arranged()
        after = groups.keys() | {group_of(name) for name in created(self.cluster.plan())}
        assert len(after) <= max(len(groups), target.replicas + target.max_surge)

    @invariant()
    def nothing_is_rolled_out_while_paused(self) -> None:
        if self.cluster.builder.spec.get("paused"):
            assert not any("outdated" in reason or "gone" in reason for reason in deleted(self.cluster.plan()).values())

    @invariant()
    def recovery_leaves_running_groups_alone(self) -> None:
        _, groups = self._arranged()
        for name, reason in deleted(self.cluster.plan()).items():
            if "lost" in reason or "failed" in reason:
                assert not groups[group_of(name)].running

    def _arranged(self) -> tuple[Target, dict[int, Group]]:
        target = target_of(self.cluster.builder.desired(), self.cluster.revisions.values())
        return target, arrange(target, self.cluster.pods.values())

    def teardown(self) -> None:
        """Without further disturbance everything comes to rest, and then is exactly as wanted."""
        if not hasattr(self, "cluster"):
            return
        self.cluster.edit(self.cluster.builder.with_spec(paused=False))
        self.cluster.converge(limit=60)
        target, groups = self._arranged()
        status = self.cluster.plan().status
        assert status.available_replicas == status.replicas == target.replicas
        assert {condition.type for condition in status.conditions if condition.status == "True"} == {"Available"}
        if target.has_pods:
            assert len(groups) == target.replicas
        for group in groups.values():
            assert not group.stands_in
            check_shape(target, group)
        check_services(groups, self.cluster.services.keys())
        if self.cluster.pod_groups is not None:
            assert self.cluster.pod_groups.keys() == {f"demo-{ordinal}" for ordinal in groups}


def is_pod(action: Action, kind: type[A]) -> TypeGuard[A]:
    return isinstance(action, kind) and action.kind is ChildKind.POD


def group_of(name: str) -> int:
    slot = slot_of("demo", name)
    assert slot
    return slot.group


def replica_of(name: str) -> str:
    return name.rpartition("-")[0]


def check_budget(units: Mapping[int, Unit], deletes: dict[str, str], *, minimum: int, partition: int) -> None:
    """Check the deletes for a roll-out among ServingGroups, or among the replicas of a role."""
    chosen = [unit for unit in units.values() if any("outdated" in deletes.get(pod.name, "") for pod in unit.pods)]
    assert all(unit.ordinal >= partition for unit in chosen)
    staying = {pod.name for unit in units.values() for pod in unit.pods if not pod.deleting} - deletes.keys()
    if any(unit.started for unit in chosen):
        assert sum(any(pod.name in staying for pod in unit.pods) for unit in units.values()) >= minimum
    if any(unit.running for unit in chosen):
        left = [unit for unit in units.values() if unit.running and all(pod.name in staying for pod in unit.pods)]
        assert len(left) >= minimum


def check_shape(target: Target, group: Group) -> None:
    """Check that a ServingGroup has just the replicas wanted, of the present template where it is not protected."""
    if not group.protected:
        assert group.expected == tuple(target.template.roles.values())
    assert group.roles.keys() <= {entry.role.name for entry in group.expected}
    for entry in group.expected:
        replicas = group.roles.get(entry.role.name, {})
        assert len(replicas) == entry.role.replicas
        assert not any(replica.outdated for replica in replicas.values() if not (group.protected or replica.protected))
    assert all(replica.template is not None and replica.complete for replica in group.replicas)
    if not target.by_role:
        hashes = {entry.role.name: entry.hash for entry in group.expected}
        assert all(replica.template and replica.template.hash == hashes[replica.role] for replica in group.replicas)


def check_services(groups: Mapping[int, Group], services: Iterable[str]) -> None:
    """Check that there are just the Services wanted, by the template of each replica."""
    wanted = {
        f"demo-{group.ordinal}-{replica.role}-{replica.ordinal}-0"
        for group in groups.values()
        for replica in group.replicas
        if replica.template and replica.template.role.worker_template
    }
    assert set(services) == wanted


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=80, stateful_step_count=25)
