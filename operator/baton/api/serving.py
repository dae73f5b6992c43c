"""ModelServing: groups of roles, each role a set of equal pods or multi-node replicas."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from baton.api.engine import Engine
from baton.api.meta import ApiModel, Condition, Int64, IntOrPercent, JsonObject, Kind, list_map, validations

DEFAULT_SCHEDULER: Final = "volcano"
MOST_REPLICAS: Final = 1_000_000
"""The bound that autoscaling policies have too; it keeps a slip of the finger from exhausting the operator."""

_HAS_PODS_OR_ENGINE: Final = (
    "has(self.engine) || self.roles.all(r, has(r.engine) || has(r.workerReplicas) && has(r.entryTemplate) && "
    "has(r.entryTemplate.spec) && has(r.entryTemplate.spec.containers))"
)


def _readable(spec: JsonObject) -> JsonObject:
    """Refuse what Baton could not read; everything else is Kubernetes' to check."""
    containers = _objects("containers", spec.get("containers", []))
    names = [container.get("name") for container in containers]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError("each of containers needs a name of its own")
    for container in [*containers, *_objects("initContainers", spec.get("initContainers") or [])]:
        _objects("ports", container.get("ports") or [])
        if not all(isinstance(entry.get("name"), str) for entry in _objects("env", container.get("env") or [])):
            raise ValueError("each of env needs a name")
    return spec


def _objects(field: str, value: object) -> list[JsonObject]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{field} should be a list of objects")  # pydantic reports no TypeError
    return value


class TemplateMeta(ApiModel):
    """Labels and annotations of pods."""

    labels: dict[str, str] = Field(
        default_factory=dict, description="Labels added to the pods; they win over those of the controller."
    )
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations added to the pods.")


PodSpec = Annotated[
    JsonObject,
    AfterValidator(_readable),
    WithJsonSchema(
        {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {
                "containers": {
                    "type": "array",
                    "description": "Containers of the pod; fields as in `kubectl explain pod.spec.containers`.",
                    **list_map("name"),
                    "items": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string", "description": "Name of the container, unique in the pod."},
                        },
                    },
                }
            },
        }
    ),
]
"""A pod spec as Kubernetes has it. Only what Baton reads is checked; the rest is when pods are created."""


class PodTemplate(ApiModel):
    """A pod template: metadata and a pod spec."""

    metadata: TemplateMeta = Field(default_factory=TemplateMeta, description="Labels and annotations of the pods.")
    spec: PodSpec = Field(default_factory=dict, description="Pod spec; fields as in `kubectl explain pod.spec`.")


class PluginType(StrEnum):
    """Where a plugin comes from."""

    BUILT_IN = "BuiltIn"


class PluginScope(ApiModel):
    """Which pods a plugin touches."""

    roles: list[str] = Field(default_factory=list, description="Role names; empty means all roles.")
    target: str = Field(default="", description="All, Entry or Worker; empty means All.")


class Plugin(ApiModel):
    """A customisation of the pods."""

    name: str = Field(description="Name of the plugin.")
    type: PluginType = Field(default=PluginType.BUILT_IN, description="Where the plugin comes from.")
    config: Any = Field(default=None, description="Configuration of the plugin, any JSON.")
    scope: PluginScope | None = Field(default=None, description="Which pods it touches.")


class GangPolicy(ApiModel):
    """How many role replicas must be schedulable together."""

    min_role_replicas: dict[str, int] | None = Field(
        default=None,
        max_length=4,
        description="Smallest number of role replicas that start together, by role name. Fixed once set.",
        json_schema_extra=validations(("self == oldSelf", "minRoleReplicas is immutable")),
    )


class TopologyMode(StrEnum):
    """Whether a topology constraint may be broken."""

    HARD = "hard"
    SOFT = "soft"


class TopologyPolicy(ApiModel):
    """A network topology constraint of Volcano."""

    mode: TopologyMode = Field(default=TopologyMode.HARD, description="hard (default) or soft.")
    highest_tier_allowed: int | None = Field(default=None, ge=0, description="Highest network tier the pods may span.")
    highest_tier_name: str | None = Field(default=None, max_length=253, description="The same tier by name.")


class NetworkTopology(ApiModel):
    """Network topology constraints of a ServingGroup and of its role replicas."""

    group_policy: TopologyPolicy | None = Field(default=None, description="For all pods of a ServingGroup.")
    role_policy: TopologyPolicy | None = Field(default=None, description="For the pods of one role replica.")


class Role(ApiModel):
    """A set of equal role replicas; one replica is an entry pod and its workers."""

    name: str = Field(
        max_length=12,
        pattern=r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$",
        description="Name of the role, for example prefill or decode.",
    )
    replicas: int = Field(
        default=1, ge=0, le=MOST_REPLICAS, description="Role replicas in each ServingGroup. Default 1."
    )
    entry_template: PodTemplate | None = Field(
        default=None,
        description="Pod that leads a role replica. Required without a typed engine; with one it is merged over what "
        "is rendered.",
    )
    worker_replicas: int | None = Field(
        default=None,
        ge=0,
        le=MOST_REPLICAS,
        description="Worker pods of each role replica, the entry pod not counted. Required without a typed engine, "
        "which computes it.",
    )
    worker_template: PodTemplate | None = Field(
        default=None,
        description="Pods of the workers. Required when workerReplicas is above 0; with a typed engine it is merged "
        "over what is rendered.",
    )
    max_unavailable: IntOrPercent = Field(
        default=1,
        description="Role replicas of a ServingGroup that may be down at once during a RoleRollingUpdate; percentages "
        "of replicas round down.",
    )
    partition: IntOrPercent | None = Field(
        default=None,
        description="Number of role replicas, lowest ordinals first, that keep the old template; percentages round "
        "up. Only with RoleRollingUpdate.",
    )
    engine: Engine | None = Field(
        default=None, description="Typed engine of this role, merged over spec.template.engine."
    )


class ServingGroup(ApiModel):
    """The template of a ServingGroup: the unit inside which prefill and decode pair up."""

    engine: Engine | None = Field(default=None, description="Typed engine shared by all roles.")
    restart_grace_period_seconds: Int64 = Field(
        default=0,
        ge=0,
        description="How long a failed pod may recover by itself before recoveryPolicy acts, in seconds.",
    )
    gang_policy: GangPolicy | None = Field(default=None, description="Pods that are scheduled together or not at all.")
    network_topology: NetworkTopology | None = Field(
        default=None, description="How far apart in the network the pods may be."
    )
    roles: list[Role] = Field(
        min_length=1,
        max_length=4,
        description="Roles of the group.",
        json_schema_extra=validations(
            ("self.all(x, self.exists_one(y, y.name == x.name))", "roles name must be unique")
        ),
    )


class RolloutType(StrEnum):
    """What a rollout replaces at a time."""

    SERVING_GROUP = "ServingGroupRollingUpdate"
    ROLE = "RoleRollingUpdate"


class RollingUpdate(ApiModel):
    """Limits of a rolling update over ServingGroups."""

    max_unavailable: IntOrPercent = Field(
        default=1,
        description="ServingGroups that may be down at once; percentages round down. 0 only together with maxSurge.",
    )
    max_surge: IntOrPercent = Field(
        default=0,
        description="ServingGroups that a roll-out may create beyond the replicas. They stand in for those being "
        "replaced, and go at its end; percentages round up.",
    )
    partition: IntOrPercent | None = Field(
        default=None,
        description="Number of ServingGroups, lowest ordinals first, that keep the old template; percentages round up.",
    )


class RolloutStrategy(ApiModel):
    """How a changed template reaches the pods."""

    type: RolloutType = Field(
        default=RolloutType.SERVING_GROUP, description="ServingGroupRollingUpdate (default) or RoleRollingUpdate."
    )
    rolling_update_configuration: RollingUpdate | None = Field(
        default=None, description="Limits; only for ServingGroupRollingUpdate."
    )


class RecoveryPolicy(StrEnum):
    """What is re-created when a pod is lost."""

    SERVING_GROUP = "ServingGroupRecreate"
    ROLE = "RoleRecreate"
    NONE = "None"


class ModelServingSpec(ApiModel):
    """What a ModelServing should be."""

    replicas: int = Field(default=1, ge=0, le=MOST_REPLICAS, description="Number of ServingGroups. Default 1.")
    scheduler_name: str = Field(
        default=DEFAULT_SCHEDULER, description="Scheduler of all pods; wins over that of a pod template."
    )
    plugins: list[Plugin] = Field(default_factory=list, description="Customisations of the pods, applied in order.")
    template: ServingGroup = Field(
        description="Template of the ServingGroups.",
        json_schema_extra=validations(
            ("!has(oldSelf.gangPolicy) || has(self.gangPolicy)", "gangPolicy is required once set"),
            (
                _HAS_PODS_OR_ENGINE,
                "roles without a typed engine, own or shared, need workerReplicas and entryTemplate with containers",
            ),
        ),
    )
    rollout_strategy: RolloutStrategy | None = Field(
        default=None, description="How a changed template reaches the pods."
    )
    drain_timeout_seconds: int | None = Field(
        default=None,
        ge=0,
        description="How long pods that scaling or a roll-out removes may finish their requests, in seconds, where a "
        "route leads to them. Default 300 if routers tell what is in flight, else 0.",
    )
    paused: bool = Field(
        default=False,
        description="Whether a roll-out stops where it is. Scaling and healing go on, with the former template.",
    )
    recovery_policy: RecoveryPolicy = Field(
        default=RecoveryPolicy.ROLE,
        description="What is re-created when a pod fails: ServingGroupRecreate, RoleRecreate (default: its role "
        "replica) or None (the pod alone).",
    )


class RoleStatus(ApiModel):
    """How far a role is, over all ServingGroups."""

    name: str = Field(description="Name of the role.")
    desired: int = Field(default=0, description="Role replicas asked for.")
    ready: int = Field(default=0, description="Role replicas whose pods are all ready.")
    updated: int = Field(default=0, description="Role replicas of the present template.")


class ModelServingStatus(ApiModel):
    """How far a ModelServing is."""

    observed_generation: Int64 = Field(default=0, description="Generation that the counters are true for.")
    replicas: int = Field(default=0, description="ServingGroups that exist, those being deleted included.")
    current_replicas: int = Field(default=0, description="ServingGroups of the current revision.")
    updated_replicas: int = Field(default=0, description="ServingGroups of the update revision.")
    available_replicas: int = Field(default=0, description="ServingGroups whose pods are all ready.")
    current_revision: str = Field(default="", description="Revision of the ServingGroups not yet updated.")
    update_revision: str = Field(default="", description="Revision of the present template.")
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Available, Progressing, UpdateInProgress, and Accepted when the spec is refused.",
    )
    roles: list[RoleStatus] = Field(
        default_factory=list, description="Progress of each role.", json_schema_extra=list_map("name")
    )
    label_selector: str = Field(default="", description="Selects one pod a ServingGroup, for the scale subresource.")


class ModelServing(Kind):
    """A model served by groups of prefill, decode or other roles."""

    kind: Literal["ModelServing", ""] = ""
    spec: ModelServingSpec
    status: ModelServingStatus = ModelServingStatus()
