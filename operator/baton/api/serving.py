"""ModelServing: groups of roles, each role a set of equal pods or multi-node replicas."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from baton.api.engine import Engine
from baton.api.meta import ApiModel, Condition, FreeObject, IntOrPercent, Kind

DEFAULT_SCHEDULER = "volcano"


def _rules(*rules: tuple[str, str]) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


class TemplateMeta(ApiModel):
    """Labels and annotations of pods."""

    labels: dict[str, str] = Field(
        default_factory=dict, description="Labels added to the pods; they win over those of the controller."
    )
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations added to the pods.")


PodSpec = Annotated[
    dict[str, Any],
    Field(
        json_schema_extra={
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "required": ["containers"],
            "properties": {
                "containers": {
                    "type": "array",
                    "description": "Containers of the pod; fields as in `kubectl explain pod.spec.containers`.",
                    "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                }
            },
        }
    ),
]


class PodTemplate(ApiModel):
    """A pod template: metadata and a pod spec."""

    metadata: TemplateMeta = Field(default_factory=TemplateMeta, description="Labels and annotations of the pods.")
    spec: PodSpec = Field(description="Pod spec; fields as in `kubectl explain pod.spec`.")


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
    config: FreeObject | None = Field(default=None, description="Configuration of the plugin.")
    scope: PluginScope | None = Field(default=None, description="Which pods it touches.")


class GangPolicy(ApiModel):
    """How many role replicas must be schedulable together."""

    min_role_replicas: dict[str, int] | None = Field(
        default=None,
        description="Smallest number of replicas per role name that start together.",
        json_schema_extra=_rules(("self == oldSelf", "minRoleReplicas is immutable")),
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
    replicas: Annotated[int, Field(json_schema_extra={"format": "int32"})] = Field(
        default=1, ge=0, description="Role replicas in each ServingGroup."
    )
    entry_template: PodTemplate | None = Field(
        default=None, description="Entry pod. Optional with a typed engine, where it is merged over what is rendered."
    )
    worker_replicas: int | None = Field(
        default=None,
        ge=0,
        description="Worker pods of each role replica, the entry pod not counted. Computed for a typed engine.",
    )
    worker_template: PodTemplate | None = Field(
        default=None, description="Worker pods; required when workerReplicas is above 0."
    )
    max_unavailable: IntOrPercent = Field(
        default=1, description="Role replicas that may be down at once; used with RoleRollingUpdate."
    )
    partition: IntOrPercent | None = Field(
        default=None,
        description="Role replicas with lower ordinals keep the old template; only with RoleRollingUpdate.",
    )
    engine: Engine | None = Field(
        default=None, description="Typed engine of this role, merged over spec.template.engine."
    )


class ServingGroup(ApiModel):
    """The template of a ServingGroup: the unit inside which prefill and decode pair up."""

    engine: Engine | None = Field(default=None, description="Typed engine shared by all roles.")
    restart_grace_period_seconds: Annotated[int, Field(json_schema_extra={"format": "int64"})] = Field(
        default=0, ge=0, description="How long a failed pod may recover by itself, in seconds."
    )
    gang_policy: GangPolicy | None = Field(default=None, description="Gang scheduling.")
    network_topology: NetworkTopology | None = Field(default=None, description="Network topology constraints.")
    roles: list[Role] = Field(
        min_length=1,
        max_length=4,
        description="Roles of the group.",
        json_schema_extra=_rules(("self.all(x, self.exists_one(y, y.name == x.name))", "roles name must be unique")),
    )


class RolloutType(StrEnum):
    """What a rollout replaces at a time."""

    SERVING_GROUP = "ServingGroupRollingUpdate"
    ROLE = "RoleRollingUpdate"


class RollingUpdate(ApiModel):
    """Limits of a rolling update over ServingGroups."""

    max_unavailable: IntOrPercent = Field(
        default=1, description="ServingGroups that may be down at once; percentages round down."
    )
    partition: IntOrPercent | None = Field(
        default=None, description="ServingGroups with lower ordinals keep the old template; percentages round up."
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

    replicas: Annotated[int, Field(json_schema_extra={"format": "int32"})] = Field(
        default=1, ge=0, description="Number of ServingGroups."
    )
    scheduler_name: str = Field(default=DEFAULT_SCHEDULER, description="Scheduler of all pods.")
    plugins: list[Plugin] = Field(default_factory=list, description="Customisations of the pods.")
    template: ServingGroup = Field(
        description="Template of the ServingGroups.",
        json_schema_extra=_rules(
            ("!has(oldSelf.gangPolicy) || has(self.gangPolicy)", "gangPolicy is required once set"),
            (
                "has(self.engine) || self.roles.all(r, has(r.engine) || (has(r.entryTemplate) && has(r.workerReplicas)))",
                "a role needs entryTemplate and workerReplicas, or a typed engine in spec.template.engine or in the role",
            ),
        ),
    )
    rollout_strategy: RolloutStrategy | None = Field(
        default=None, description="How a changed template reaches the pods."
    )
    recovery_policy: RecoveryPolicy = Field(
        default=RecoveryPolicy.ROLE, description="What is re-created when a pod is lost."
    )


class RoleStatus(ApiModel):
    """How far a role is, over all ServingGroups."""

    name: str = Field(description="Name of the role.")
    desired: int = Field(default=0, description="Role replicas asked for.")
    ready: int = Field(default=0, description="Role replicas whose pods are all ready.")


class ModelServingStatus(ApiModel):
    """How far a ModelServing is."""

    observed_generation: int = Field(default=0, description="Generation that the counters are true for.")
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
    roles: list[RoleStatus] = Field(default_factory=list, description="Progress of each role.")
    label_selector: str = Field(default="", description="Selects one pod a ServingGroup, for the scale subresource.")


class ModelServing(Kind):
    """A model served by groups of prefill, decode or other roles."""

    kind: Literal["ModelServing", ""] = ""
    spec: ModelServingSpec
    status: ModelServingStatus = ModelServingStatus()
