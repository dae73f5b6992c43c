"""A cluster small enough for tests: it does what plans ask of it, and what happens to pods is up to the test."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from baton.api import labels
from baton.planning.model import (
    ChildKind,
    ChildView,
    ConfigFile,
    Create,
    Delete,
    Observed,
    Plan,
    PodGroups,
    PodGroupView,
    PodView,
    RevisionView,
    Update,
)
from baton.planning.plan import plan
from builders import ServingBuilder, as_ready, pod_group_view, pod_view, revision_view, serving
from fake_api_server import merged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from baton.planning.model import Action

PAIR = serving().role("prefill").role("decode")
MULTI_NODE = serving().role("prefill").role("decode", replicas=2, workers=1)
NODE_NAMES = ["demo-0-decode-0-0", "demo-0-decode-0-1", "demo-0-decode-1-0", "demo-0-decode-1-1"]


def group_names(*ordinals: int) -> list[str]:
    """Return the names of the pods of ServingGroups of `PAIR`."""
    return [f"demo-{ordinal}-{role}-0-0" for ordinal in ordinals for role in ("decode", "prefill")]


class Cluster:
    """The children of one ModelServing as an API server would keep them: one object a name, deletion in two steps."""

    def __init__(self, builder: ServingBuilder, *config_files: ConfigFile) -> None:
        self.builder = builder
        self.config_files = config_files
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.pods: dict[str, PodView] = {}
        self.services: dict[str, ChildView] = {}
        self.config_maps: dict[str, ChildView] = {}
        self.pod_groups: dict[str, PodGroupView] | None = None
        self.has_sub_groups = False
        self.revisions: dict[str, RevisionView] = {}
        self.is_routed = False
        self.in_flight: dict[str, int] = {}
        self._revision_writes: dict[str, Create] = {}
        self._uids = itertools.count()

    def edit(self, builder: ServingBuilder, *config_files: ConfigFile) -> None:
        """Replace the spec as `kubectl apply` does."""
        generation = self.builder.metadata["generation"] + 1
        self.builder = builder.with_metadata(generation=generation).status(self.builder.observed_status)
        self.config_files = config_files

    def copy(self) -> Cluster:
        """Return an independent cluster in the same state."""
        other = Cluster(self.builder, *self.config_files)
        other.now, other.is_routed, other.in_flight = self.now, self.is_routed, self.in_flight
        other.pods, other.services, other.config_maps = dict(self.pods), dict(self.services), dict(self.config_maps)
        other.pod_groups = None if self.pod_groups is None else dict(self.pod_groups)
        other.has_sub_groups = self.has_sub_groups
        other.revisions, other._revision_writes = dict(self.revisions), dict(self._revision_writes)
        other._uids = itertools.count(1_000_000)
        return other

    def observed(self) -> Observed:
        return Observed(
            now=self.now,
            pods=tuple(self.pods.values()),
            services=tuple(self.services.values()),
            config_maps=tuple(self.config_maps.values()),
            pod_groups=None
            if self.pod_groups is None
            else PodGroups(tuple(self.pod_groups.values()), self.has_sub_groups),
            revisions=tuple(self.revisions.values()),
            is_routed=self.is_routed,
            in_flight=self.in_flight,
        )

    def install_volcano(self, *, has_sub_groups: bool = True) -> None:
        """Let the cluster know PodGroups."""
        self.pod_groups, self.has_sub_groups = {}, has_sub_groups

    def plan(self) -> Plan:
        return plan(self.builder.desired(*self.config_files), self.observed())

    def step(self) -> Plan:
        """Plan, carry all of it out, and write the status."""
        made = self.plan()
        self.carry_out(made.actions)
        self.builder = self.builder.status(made.status.document())
        return made

    def carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Create():
                    self._create(action)
                case Update():
                    self._update(action)
                case Delete():
                    self._delete(action)

    def _create(self, action: Create) -> None:
        uid = f"uid-{next(self._uids)}"
        if action.kind is ChildKind.POD:
            self.pods.setdefault(action.name, pod_view(action, uid=uid))
            return
        if action.kind is ChildKind.POD_GROUP:
            assert self.pod_groups is not None
            self.pod_groups.setdefault(action.name, pod_group_view(action.object, uid=uid))
            return
        if action.kind is ChildKind.REVISION:
            self._keep_revision(action, uid)
            return
        metadata = action.object["metadata"]
        child = ChildView(metadata["namespace"], action.name, uid, metadata["ownerReferences"][0]["uid"])
        self._children(action.kind).setdefault(action.name, child)

    def _update(self, action: Update) -> None:
        match action.kind:
            case ChildKind.POD:
                assert self.pods[action.name].uid == action.uid
                since = action.patch["metadata"]["annotations"][labels.DRAINING]
                self.change(action.name, draining_since=since and datetime.fromisoformat(since))
            case ChildKind.REVISION:
                self._update_revision(action)
            case _:
                self._update_pod_group(action)

    def _update_pod_group(self, action: Update) -> None:
        assert self.pod_groups is not None
        view, patch = self.pod_groups[action.name], action.patch
        assert action.uid == view.uid
        applied = patch["metadata"]["annotations"][labels.APPLIED]
        self.pod_groups[action.name] = replace(view, spec=merged(view.spec, patch["spec"]), applied=applied)

    def _update_revision(self, action: Update) -> None:
        assert self.revisions[action.name].uid == action.uid
        written = self._revision_writes[action.name].object
        annotations = written["metadata"]["annotations"] | action.patch["metadata"]["annotations"]
        changed = Create(action.kind, {**written, "metadata": {**written["metadata"], "annotations": annotations}})
        self._keep_revision(changed, action.uid)

    def _keep_revision(self, written: Create, uid: str) -> None:
        self._revision_writes[written.name] = written
        self.revisions[written.name] = revision_view(written, uid=uid)

    def _delete(self, action: Delete) -> None:
        if action.kind is ChildKind.POD:
            if self.pods[action.name].uid == action.uid:
                self.change(action.name, deleting=True)
        elif action.kind is ChildKind.REVISION:
            del self.revisions[action.name]
        elif self._children(action.kind)[action.name].uid == action.uid:
            del self._children(action.kind)[action.name]

    def _children(self, kind: ChildKind) -> dict[str, Any]:
        if kind is ChildKind.POD_GROUP:
            assert self.pod_groups is not None
            return self.pod_groups
        return self.services if kind is ChildKind.SERVICE else self.config_maps

    def change(self, name: str, **state: Any) -> None:
        """Change what is seen of a pod."""
        self.pods[name] = replace(self.pods[name], **state)

    def change_all(self, changed: Callable[[PodView], PodView]) -> None:
        self.pods = {name: changed(pod) for name, pod in self.pods.items()}

    def change_revisions(self, **state: Any) -> None:
        self.revisions = {name: replace(view, **state) for name, view in self.revisions.items()}

    def disown_revisions(self) -> None:
        """Let all revisions belong to somebody else."""
        self.change_revisions(owner_uid="somebody-else")

    def vanish(self, name: str) -> None:
        """Remove a pod at once, as a forced deletion does."""
        del self.pods[name]

    def fail(self, name: str, **state: Any) -> None:
        """End a pod's containers."""
        self.change(name, phase="Failed", ready=False, unready_since=self.now, **state)

    def restart(self, name: str) -> None:
        """Let a container of a pod restart; it is not ready since."""
        self.change(name, phase="Running", ready=False, restarted=True, unready_since=self.now)

    def finish_deletions(self) -> None:
        self.pods = {name: pod for name, pod in self.pods.items() if not pod.deleting}

    def make_ready(self) -> None:
        """Make every pod ready that can be: those that failed for good and those that leave cannot."""
        self.change_all(lambda pod: pod if pod.deleting or pod.phase == "Failed" else as_ready(pod))

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def converge(self, *, limit: int = 100) -> int:
        """Let everything take its course until nothing is left to do; return the number of steps it took."""
        for step in range(limit):
            made = self.step()
            leaving = any(pod.deleting for pod in self.pods.values())
            waiting = any(not pod.ready for pod in self.pods.values())
            if not (made.actions or made.requeue_after or leaving or waiting):
                return step
            self.finish_deletions()
            self.make_ready()
            self.pass_time(made.requeue_after or 1)
        raise AssertionError(f"not at rest after {limit} steps: {self.plan().actions}")

    def names(self) -> list[str]:
        """Names of the pods that are not leaving, sorted."""
        return sorted(name for name, pod in self.pods.items() if not pod.deleting)

    def leaving(self) -> list[str]:
        """Names of the pods that are leaving, sorted."""
        return sorted(name for name, pod in self.pods.items() if pod.deleting)


def running(builder: ServingBuilder, *config_files: ConfigFile) -> Cluster:
    """Return a cluster in which all the ModelServing asks for exists and is ready."""
    cluster = Cluster(builder, *config_files)
    cluster.converge()
    return cluster


def rolled(builder: ServingBuilder) -> Cluster:
    """Return a cluster whose pods run, right after the user changed the image of one role."""
    cluster = running(builder)
    (role,) = [role for role in builder.roles if role["name"] == "decode"]
    template = {"spec": {"containers": [{"name": "engine", "image": "engine:2"}]}}
    changed = {**role, "entryTemplate": template}
    cluster.edit(builder.with_role(changed))
    return cluster


def created(made: Plan, kind: ChildKind = ChildKind.POD) -> dict[str, dict[str, Any]]:
    """Return the documents of one kind that a plan creates, by name."""
    return {action.name: action.object for action in made.actions if isinstance(action, Create) and action.kind is kind}


def updated(made: Plan, kind: ChildKind) -> dict[str, dict[str, Any]]:
    """Return the patches of a plan to children of one kind, by the name of what they change."""
    return {action.name: action.patch for action in made.actions if isinstance(action, Update) and action.kind is kind}


def deleted(made: Plan, kind: ChildKind = ChildKind.POD) -> dict[str, str]:
    """Return the reasons for which a plan deletes children of one kind, by name."""
    return {action.name: action.reason for action in made.actions if isinstance(action, Delete) and action.kind is kind}
