"""ModelServings and their pods in a few words: `serving("demo").role("prefill", replicas=2).role("decode").build()`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from baton.api import labels
from baton.api.serving import ModelServing
from baton.planning.history import view_of
from baton.planning.model import ConfigFile, Create, Desired, PodGroupView, PodView, RevisionView

JsonObject = dict[str, Any]


def serving(name: str = "demo", *, namespace: str = "default", replicas: int = 1, **spec: Any) -> ServingBuilder:
    """Start a ModelServing of `replicas` groups; `spec` takes further fields of it, as users write them."""
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", "generation": 1}
    return ServingBuilder(metadata=metadata, spec={"replicas": replicas, **spec})


def pod_template(image: str = "engine:1", **metadata: dict[str, str]) -> JsonObject:
    """Return a pod template with one container; `labels=` and `annotations=` go to its metadata."""
    return {"metadata": metadata, "spec": {"containers": [{"name": "engine", "image": image}]}}


@dataclass(frozen=True)
class ServingBuilder:
    """A ModelServing in the making; every call returns a new one."""

    metadata: JsonObject
    spec: JsonObject
    template: JsonObject = field(default_factory=dict)
    roles: tuple[JsonObject, ...] = ()
    observed_status: JsonObject = field(default_factory=dict)

    def role(
        self, name: str, *, replicas: int = 1, workers: int = 0, image: str = "engine:1", **fields: Any
    ) -> ServingBuilder:
        """Add a raw role, or replace the one of that name; `fields` are further fields of it, as users write them."""
        role = {"name": name, "replicas": replicas, "workerReplicas": workers, "entryTemplate": pod_template(image)}
        if workers:
            role["workerTemplate"] = pod_template(image)
        return self.with_role({**role, **fields})

    def typed_role(self, name: str, *, replicas: int = 1, **engine: Any) -> ServingBuilder:
        """Add a role with a typed engine, or replace the one of that name."""
        return self.with_role({"name": name, "replicas": replicas, "engine": engine})

    def with_role(self, role: JsonObject) -> ServingBuilder:
        """Add a role as users write it, or replace the one of that name."""
        names = [present["name"] for present in self.roles]
        if role["name"] not in names:
            return replace(self, roles=(*self.roles, role))
        return replace(
            self, roles=tuple(role if present["name"] == role["name"] else present for present in self.roles)
        )

    def without_role(self, name: str) -> ServingBuilder:
        """Leave a role out."""
        return replace(self, roles=tuple(role for role in self.roles if role["name"] != name))

    def engine(self, **engine: Any) -> ServingBuilder:
        """Set the typed engine that all roles share."""
        return replace(self, template={**self.template, "engine": engine})

    def replicas(self, replicas: int) -> ServingBuilder:
        """Set the number of groups."""
        return self.with_spec(replicas=replicas)

    def with_spec(self, **spec: Any) -> ServingBuilder:
        """Set fields of the spec."""
        return replace(self, spec={**self.spec, **spec})

    def with_metadata(self, **metadata: Any) -> ServingBuilder:
        """Set fields of the metadata."""
        return replace(self, metadata={**self.metadata, **metadata})

    def rollout(self, **limits: int | str) -> ServingBuilder:
        """Roll out group by group; `limits` are maxUnavailable and partition."""
        strategy = {"type": "ServingGroupRollingUpdate", "rollingUpdateConfiguration": limits}
        return self.with_spec(rolloutStrategy=strategy)

    def rollout_by_role(self) -> ServingBuilder:
        """Roll out role by role."""
        return self.with_spec(rolloutStrategy={"type": "RoleRollingUpdate"})

    def recovery(self, policy: str) -> ServingBuilder:
        """Set the recovery policy."""
        return self.with_spec(recoveryPolicy=policy)

    def grace(self, seconds: int) -> ServingBuilder:
        """Set how long a failed pod may recover by itself."""
        return replace(self, template={**self.template, "restartGracePeriodSeconds": seconds})

    def status(self, status: JsonObject) -> ServingBuilder:
        """Set the status."""
        return replace(self, observed_status=status)

    def document(self) -> JsonObject:
        """Return what the API server would hold."""
        return {
            "apiVersion": labels.WORKLOAD_API_VERSION,
            "kind": "ModelServing",
            "metadata": self.metadata,
            "spec": {**self.spec, "template": {**self.template, "roles": list(self.roles)}},
            "status": self.observed_status,
        }

    def build(self) -> ModelServing:
        """Return the validated object."""
        return ModelServing.read(self.document(), strict=True)

    def desired(self, *config_files: ConfigFile) -> Desired:
        """Return it for planning; all its roles must be raw."""
        built = self.build()
        return Desired(built, tuple(built.spec.template.roles), config_files)


def pod_view(create: Create, *, uid: str = "", **state: Any) -> PodView:
    """Return how a created pod looks to planning, pending unless `state` says otherwise."""
    metadata, volumes = create.object["metadata"], create.object["spec"].get("volumes") or []
    return PodView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=uid or f"uid-of-{metadata['name']}",
        owner_uid=metadata["ownerReferences"][0]["uid"],
        labels=metadata["labels"],
        config_maps=tuple(volume["configMap"]["name"] for volume in volumes if "configMap" in volume),
        in_pod_group=labels.POD_GROUP in metadata.get("annotations", {}),
        **state,
    )


def pod_group_view(document: JsonObject, *, uid: str) -> PodGroupView:
    """Return how a created PodGroup looks to planning."""
    metadata = document["metadata"]
    return PodGroupView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=uid,
        owner_uid=metadata["ownerReferences"][0]["uid"],
        spec=document["spec"],
        applied=metadata["annotations"][labels.APPLIED],
    )


def as_ready(pod: PodView) -> PodView:
    """Return the pod as it is once all its containers are ready."""
    return replace(pod, phase="Running", ready=True, unready_since=None, problem="")


def revision_view(create: Create, *, uid: str) -> RevisionView:
    """Return how a created ControllerRevision looks to planning."""
    return view_of({**create.object, "metadata": {**create.object["metadata"], "uid": uid}})
