"""What planning leads to in the end: the steps of a whole roll-out, and which pods it restarts; for who asks first.

Assumes the best: what is deleted goes, and what is created becomes ready. Says nothing about how long that takes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from baton.api import labels
from baton.api.meta import JsonObject
from baton.planning.history import view_of
from baton.planning.model import (
    Action,
    ChildKind,
    ChildView,
    Create,
    Delete,
    Desired,
    Observed,
    Plan,
    PodView,
    RevisionView,
    Update,
)
from baton.planning.plan import plan
from baton.planning.podgroups import carried_out

_LIMIT: Final = 10_000
"""Plans after which a roll-out is taken for endless; one has two for each ServingGroup at most."""

Step = tuple[tuple[Action, ...], ...]
"""The stages of one plan that has any."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The steps from what is there to what is asked for, and the pods before and after them.

    `is_complete` is False if the steps came to no end.
    """

    before: Mapping[str, PodView]
    after: Mapping[str, PodView]
    steps: tuple[Step, ...] = ()
    is_complete: bool = True

    @property
    def restarts(self) -> dict[str, Delete]:
        """The pods that are replaced by one of the same name, by name."""
        return {name: action for name, action in self._deletions().items() if name in self.after}

    @property
    def stops(self) -> dict[str, Delete]:
        """The pods that go for good, by name."""
        return {name: action for name, action in self._deletions().items() if name not in self.after}

    @property
    def starts(self) -> list[str]:
        """The pods that come in addition."""
        return [name for name in self.creations if name not in self.before]

    @property
    def stays(self) -> list[PodView]:
        """The pods that are left alone."""
        deletions = self._deletions()
        return [pod for pod in self.before.values() if pod.name not in deletions]

    @property
    def creations(self) -> dict[str, JsonObject]:
        """The pods that are created and stay, as documents by name."""
        made = {action.name: action.object for action in self._of_pods() if isinstance(action, Create)}
        return {name: document for name, document in made.items() if name in self.after}

    @property
    def most_at_once(self) -> int:
        """The most pods that one step deletes."""
        deleted = [sum(_is_pod(action, Delete) for stage in step for action in stage) for step in self.steps]
        return max(deleted, default=0)

    def _deletions(self) -> dict[str, Delete]:
        known = {pod.uid for pod in self.before.values()}
        return {action.name: action for action in self._of_pods() if isinstance(action, Delete) and action.uid in known}

    def _of_pods(self) -> Iterator[Action]:
        for step in self.steps:
            for stage in step:
                yield from (action for action in stage if action.kind is ChildKind.POD)


def foresee(desired: Desired, observed: Observed) -> Forecast:
    """Plan until nothing is left to do."""
    state, steps = observed, []
    for _ in range(_LIMIT):
        made = plan(desired, state)
        if made.stages:
            steps.append(made.stages)
        elif not _is_moving(state) and made.requeue_after is None:
            return Forecast(_staying(desired, observed), _staying(desired, state), tuple(steps))
        state = _after(state, made)
    return Forecast(_staying(desired, observed), _staying(desired, state), tuple(steps), is_complete=False)


def _staying(desired: Desired, observed: Observed) -> dict[str, PodView]:
    uid = desired.serving.metadata.uid
    return {pod.name: pod for pod in observed.pods if pod.owner_uid == uid and not pod.deleting}


def _is_moving(observed: Observed) -> bool:
    return any(pod.deleting or not (pod.ready or pod.phase == "Failed") for pod in observed.pods)


def _is_pod(action: Action, kind: type[Action]) -> bool:
    return action.kind is ChildKind.POD and isinstance(action, kind)


def _after(observed: Observed, made: Plan) -> Observed:
    """Return what there is when a plan is carried out and everything has come to rest."""
    gone = {action.uid for action in made.actions if isinstance(action, Delete)}
    created = [action for action in made.actions if isinstance(action, Create)]

    def children(kind: ChildKind, present: tuple[ChildView, ...]) -> tuple[ChildView, ...]:
        return (
            *(child for child in present if child.uid not in gone),
            *(_child(action) for action in created if action.kind is kind),
        )

    pods = [_settled(pod) for pod in observed.pods if not pod.deleting and pod.uid not in gone]
    return Observed(
        now=observed.now + timedelta(seconds=made.requeue_after or 0),
        pods=(*pods, *(_pod(action) for action in created if action.kind is ChildKind.POD)),
        services=children(ChildKind.SERVICE, observed.services),
        config_maps=children(ChildKind.CONFIG_MAP, observed.config_maps),
        pod_groups=carried_out(observed.pod_groups, made.actions),
        revisions=_revisions(observed, made, gone=gone),
    )


def _revisions(observed: Observed, made: Plan, *, gone: Collection[str]) -> tuple[RevisionView, ...]:
    settled = {
        action.uid: action.patch["metadata"]["annotations"][labels.SETTINGS]
        for action in made.actions
        if isinstance(action, Update) and action.kind is ChildKind.REVISION
    }
    written = [
        view_of({**action.object, "metadata": {**action.object["metadata"], "uid": _uid(action)}})
        for action in made.actions
        if isinstance(action, Create) and action.kind is ChildKind.REVISION
    ]
    staying = [view for view in observed.revisions if view.uid not in gone]
    return (*(replace(view, settings=settled.get(view.uid, view.settings)) for view in staying), *written)


def _settled(pod: PodView) -> PodView:
    return pod if pod.phase == "Failed" else replace(pod, phase="Running", ready=True, unready_since=None)


def _child(action: Create) -> ChildView:
    metadata = action.object["metadata"]
    owner = metadata["ownerReferences"][0]["uid"]
    return ChildView(metadata["namespace"], action.name, _uid(action), owner)


def _pod(action: Create) -> PodView:
    child = _child(action)
    sources = [volume.get("configMap") or {} for volume in action.object["spec"].get("volumes") or []]
    return PodView(
        namespace=child.namespace,
        name=child.name,
        uid=child.uid,
        owner_uid=child.owner_uid,
        labels=action.object["metadata"]["labels"],
        phase="Running",
        ready=True,
        config_maps=tuple(source["name"] for source in sources if source.get("name")),
        in_pod_group=labels.POD_GROUP in action.object["metadata"].get("annotations", {}),
    )


def _uid(action: Create) -> str:
    return f"of the new {action.kind} {action.name}"
