"""What planning reads and what it answers: frozen values, no behaviour beyond small facts about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from baton.api.meta import JsonObject
from baton.api.serving import ModelServing, ModelServingStatus, Role


@dataclass(frozen=True, slots=True)
class PodView:
    """What decisions need of a pod.

    `ready` means running and ready, `restarted` that any container restarted. `unready_since` is when the pod was last
    ready or a container of it last ended, whichever is later, and None while it is ready; the grace period counts from
    there. `config_maps` are the ConfigMaps it mounts, `problem` says why it is not ready, for people. `in_pod_group`
    is whether Volcano places it by the rules of a PodGroup, `draining_since` when we marked it as draining.
    """

    namespace: str
    name: str
    uid: str
    owner_uid: str
    labels: dict[str, str]
    phase: str = "Pending"
    ready: bool = False
    deleting: bool = False
    restarted: bool = False
    unready_since: datetime | None = None
    deletion_cost: int = 0
    config_maps: tuple[str, ...] = ()
    problem: str = ""
    in_pod_group: bool = False
    draining_since: datetime | None = None

    @property
    def started(self) -> bool:
        """Whether the kubelet has begun to run it."""
        return self.phase != "Pending"


@dataclass(frozen=True, slots=True)
class ChildView:
    """What decisions need of a child that is no pod."""

    namespace: str
    name: str
    uid: str
    owner_uid: str
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class PodGroupView:
    """A PodGroup: `spec` as the API server has it, `applied` the hash of what Baton wrote into it last."""

    namespace: str
    name: str
    uid: str
    owner_uid: str
    spec: JsonObject
    applied: str = ""
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class PodGroups:
    """The PodGroups of one ModelServing in a cluster that has the kind.

    `has_sub_groups` is whether the installed version of it knows `spec.subGroupPolicy`.
    """

    present: tuple[PodGroupView, ...] = ()
    has_sub_groups: bool = False


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """An immutable ConfigMap that pods mount; the name holds the hash of its content."""

    name: str
    role: str
    data: dict[str, str]


@dataclass(frozen=True, slots=True)
class RoleTemplate:
    """A role of one revision, with the labels that pods made from it carry: the revision, and the role's own hash."""

    role: Role
    revision: str
    hash: str


@dataclass(frozen=True, slots=True)
class Template:
    """All that the pods of one revision are made from: its roles by name, in order, and the ConfigMaps they mount."""

    revision: str
    roles: Mapping[str, RoleTemplate]
    config_files: tuple[ConfigFile, ...] = ()


@dataclass(frozen=True, slots=True)
class RevisionView(ChildView):
    """A ControllerRevision. `number` grows with each new one.

    `settings` is the rest of the spec as it was last with this revision, as JSON. `template` is None if what is stored
    cannot be read.
    """

    revision: str = ""
    number: int = 0
    settings: str = ""
    template: Template | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """The children of one ModelServing as the caches show them, and the time.

    `pod_groups` is None where the cluster does not have the kind. `is_routed` is whether a route leads to it,
    `in_flight` how many requests routers have on a pod, by its uid; what is not known is left out.
    """

    now: datetime
    pods: tuple[PodView, ...] = ()
    services: tuple[ChildView, ...] = ()
    config_maps: tuple[ChildView, ...] = ()
    pod_groups: PodGroups | None = None
    revisions: tuple[RevisionView, ...] = ()
    is_routed: bool = False
    in_flight: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Desired:
    """A ModelServing whose roles are all raw pod templates, and the ConfigMaps those mount.

    `serving` is what the user wrote; revisions are taken from it, so that a new release of Baton that renders
    differently does not restart running pods. `roles` are in the same order, with all the templates they need.
    `stored` is the revision to keep to where the spec itself was put together from one.
    """

    serving: ModelServing
    roles: tuple[Role, ...]
    config_files: tuple[ConfigFile, ...] = ()
    stored: Template | None = None


class ChildKind(StrEnum):
    """The kinds of children."""

    POD = "Pod"
    SERVICE = "Service"
    CONFIG_MAP = "ConfigMap"
    POD_GROUP = "PodGroup"
    REVISION = "ControllerRevision"


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object; one of the same name and owner is as good."""

    kind: ChildKind
    object: JsonObject

    @property
    def name(self) -> str:
        """The object's name."""
        name: Any = self.object["metadata"]["name"]
        return str(name)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly the object with this uid, never its successor."""

    kind: ChildKind
    name: str
    uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Update:
    """Merge `patch` into exactly the object with this uid: None removes a field, a list replaces the whole list."""

    kind: ChildKind
    name: str
    uid: str
    patch: JsonObject
    reason: str


Action = Create | Update | Delete


class NoteReason(StrEnum):
    """Reasons of the events on a ModelServing; existing clients look for these."""

    ROLE_CREATING = "RoleCreating"
    ROLE_RUNNING = "RoleRunning"
    ROLE_DELETING = "RoleDeleting"


@dataclass(frozen=True, slots=True)
class Note:
    """An event to record after the status is written."""

    reason: NoteReason
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: stages in order, the actions inside a stage in any order; then the status, then the notes.

    `requeue_after` is set only for time itself (grace periods), in seconds.
    """

    stages: tuple[tuple[Action, ...], ...] = ()
    status: ModelServingStatus = field(default_factory=ModelServingStatus)
    notes: tuple[Note, ...] = ()
    requeue_after: float | None = None

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions of all stages."""
        return tuple(action for stage in self.stages for action in stage)
