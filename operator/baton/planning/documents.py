"""The children of a ModelServing as documents to create: pods, headless Services and launch ConfigMaps."""

from __future__ import annotations

from baton.api import labels
from baton.api.meta import JsonObject
from baton.api.serving import ModelServing, PodTemplate, Role
from baton.planning.model import ConfigFile, RoleTemplate
from baton.planning.naming import Slot, entry_name, group_name, pod_name, role_id
from baton.planning.target import replica_size


def pod(serving: ModelServing, made_from: RoleTemplate, slot: Slot, *, is_surge: bool = False) -> JsonObject:
    """Return the pod of a slot.

    The template's labels and annotations win over ours, as existing objects rely on; only those that say which
    template the pod is from and why it is there cannot be overridden, because decisions depend on them. Our environment
    comes first in every container, so that the container's own variables may refer to it.

    Raises:
        ValueError: the role has no template for this pod; admission refuses such a role.

    """
    template = _template(made_from.role, slot)
    environment = _environment(serving, made_from.role, slot)
    spec = {**template.spec, "schedulerName": serving.spec.scheduler_name}
    for field in ("containers", "initContainers"):
        if spec.get(field):
            spec[field] = [_with_environment(container, environment) for container in spec[field]]
    entry = {labels.ENTRY: "true"} if slot.worker == 0 else {}
    fixed = {labels.REVISION: made_from.revision, labels.ROLE_TEMPLATE_HASH: made_from.hash}
    if is_surge:
        fixed[labels.SURGE] = "true"
    metadata = child_metadata(
        serving,
        pod_name(serving.metadata.name, slot),
        _slot_labels(serving, slot) | entry | template.metadata.labels | fixed,
    )
    if template.metadata.annotations:
        metadata["annotations"] = dict(template.metadata.annotations)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def service(serving: ModelServing, role: Role, slot: Slot) -> JsonObject:
    """Return the headless Service through which workers find the entry pod of their replica, ready or not.

    It selects the labels the entry pod really has, also where the template overrides ours.
    """
    names = _slot_labels(serving, slot)
    carried = {labels.ENTRY: "true"} | names | _template(role, slot).metadata.labels
    selected = (labels.GROUP_NAME, labels.ROLE, labels.ROLE_ID, labels.ENTRY)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(serving, pod_name(serving.metadata.name, slot), names),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {key: carried[key] for key in selected},
        },
    }


def config_map(serving: ModelServing, file: ConfigFile) -> JsonObject:
    """Return an immutable ConfigMap that the pods of a role mount."""
    names = {labels.NAME: serving.metadata.name, labels.LAUNCH: file.role}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(serving, file.name, names),
        "immutable": True,
        "data": file.data,
    }


def child_metadata(
    serving: ModelServing, name: str, names: dict[str, str], *, blocks_deletion: bool = True
) -> JsonObject:
    """Return the metadata of a child; Kubernetes collects it together with its owner."""
    owner = {
        "apiVersion": labels.WORKLOAD_API_VERSION,
        "kind": "ModelServing",
        "name": serving.metadata.name,
        "uid": serving.metadata.uid,
        "controller": True,
        **({"blockOwnerDeletion": True} if blocks_deletion else {}),
    }
    return {"name": name, "namespace": serving.metadata.namespace, "labels": names, "ownerReferences": [owner]}


def _slot_labels(serving: ModelServing, slot: Slot) -> dict[str, str]:
    return {
        labels.NAME: serving.metadata.name,
        labels.GROUP_NAME: group_name(serving.metadata.name, slot.group),
        labels.ROLE: slot.role,
        labels.ROLE_ID: role_id(slot.role, slot.replica),
    }


def _environment(serving: ModelServing, role: Role, slot: Slot) -> list[JsonObject]:
    entry = entry_name(serving.metadata.name, slot.group, slot.role, slot.replica)
    values = {
        labels.ENVIRONMENT_GROUP_SIZE: str(replica_size(role)),
        labels.ENVIRONMENT_ENTRY_ADDRESS: f"{entry}.{serving.metadata.namespace}",
        labels.ENVIRONMENT_WORKER_INDEX: str(slot.worker),
        labels.ENVIRONMENT_GROUP_NAME: group_name(serving.metadata.name, slot.group),
        labels.ENVIRONMENT_ROLE_ID: role_id(slot.role, slot.replica),
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def _with_environment(container: JsonObject, environment: list[JsonObject]) -> JsonObject:
    ours = {entry["name"] for entry in environment}
    own = [entry for entry in container.get("env") or [] if entry.get("name") not in ours]
    # Of a container that fails without a message of its own, the last lines of its log are kept in the pod's status.
    return {"terminationMessagePolicy": "FallbackToLogsOnError", **container, "env": [*environment, *own]}


def _template(role: Role, slot: Slot) -> PodTemplate:
    kind, template = (
        ("entryTemplate", role.entry_template) if slot.worker == 0 else ("workerTemplate", role.worker_template)
    )
    if template is None:
        raise ValueError(f"role {role.name} has no {kind}; write one, or lower workerReplicas")
    return template
