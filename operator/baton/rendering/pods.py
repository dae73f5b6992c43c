"""The raw pod templates of a typed role: container, ports, probes, resources, volumes, label and annotation."""

from __future__ import annotations

from typing import Final

from baton.api import labels
from baton.api.endpoints import PodEndpoints
from baton.api.kv_transfer import KVConnector
from baton.api.meta import JsonObject
from baton.api.serving import PodTemplate, Role, TemplateMeta
from baton.common.hashing import short_hash
from baton.rendering.overlay import CONTAINER, overlay
from baton.rendering.plan import LAUNCH_DIRECTORY, PortRanges, RolePlan, Sizes

_PROBE_PERIOD: Final = 10
_PROBE_TIMEOUT: Final = 10
_READY_PERIOD: Final = 5


def raw_role(role: Role, plan: RolePlan, *, config_map: str) -> Role:
    """Return the role without an engine: raw templates that mount `config_map`, the user's merged over them.

    Workers get the user's entryTemplate when there is no workerTemplate, since they need the same nodes.
    """
    entry = _template(plan, config_map, ranks=plan.processes, ports=plan.ports)
    serving = 0 if plan.has_headless_workers else plan.processes
    worker = _template(plan, config_map, ranks=serving, ports=plan.worker_ports)
    workers = overlay(worker, role.worker_template or role.entry_template) if plan.nodes > 1 else None
    return role.model_copy(
        update={
            "engine": None,
            "entry_template": overlay(entry, role.entry_template),
            "worker_template": workers,
            "worker_replicas": plan.nodes - 1,
        }
    )


def transfer_hash(plan: RolePlan) -> str:
    """Return the hash of what both sides of a KV transfer agree on; empty without KV transfer."""
    if plan.kv is None:
        return ""
    agreed = {
        "connector": plan.kv.connector,
        "model": plan.served_name,
        "sides": [_numbers(plan.kv.prefill), _numbers(plan.kv.decode)],
        # The other connectors copy blocks as they are.
        "block": None if plan.kv.connector is KVConnector.MOONCAKE_V1 else plan.engine.block_size,
    }
    return short_hash(agreed)


def _numbers(sizes: Sizes) -> list[int]:
    return [sizes.data, sizes.tensor, sizes.pipeline, sizes.prefill_context]


def _template(plan: RolePlan, config_map: str, *, ranks: int, ports: PortRanges) -> PodTemplate:
    return PodTemplate(metadata=_metadata(plan, ranks=ranks), spec=_spec(plan, config_map, ports=ports))


def _metadata(plan: RolePlan, *, ranks: int) -> TemplateMeta:
    endpoints = PodEndpoints(port=plan.api_port, ranks=ranks, phase=plan.phase, kv_transfer=transfer_hash(plan))
    return TemplateMeta(
        labels={labels.PHASE: plan.phase.value},
        annotations={labels.ENDPOINTS: endpoints.model_dump_json(by_alias=True)},
    )


def _spec(plan: RolePlan, config_map: str, *, ports: PortRanges) -> JsonObject:
    mounts = _mounts(plan, config_map)
    host = {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"} if plan.host_network else {}
    return host | {
        "terminationGracePeriodSeconds": plan.termination_seconds,
        "containers": [_container(plan, [mount for mount, _ in mounts], ports=_ports(plan, ports))],
        "volumes": [volume for _, volume in mounts],
    }


def _container(plan: RolePlan, volume_mounts: list[JsonObject], *, ports: list[JsonObject]) -> JsonObject:
    policy = {"imagePullPolicy": plan.engine.image_pull_policy} if plan.engine.image_pull_policy else {}
    probe = {"exec": {"command": ["bash", f"{LAUNCH_DIRECTORY}/ready.sh"]}, "timeoutSeconds": _PROBE_TIMEOUT}
    return {
        "name": CONTAINER,
        "image": plan.image,
        **policy,
        "command": ["bash", f"{LAUNCH_DIRECTORY}/launch.sh"],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": ports,
        # No liveness probe: the launch script ends when a rank does, and a busy engine must not be killed.
        "startupProbe": probe
        | {"periodSeconds": _PROBE_PERIOD, "failureThreshold": -(-plan.startup_seconds // _PROBE_PERIOD)},
        "readinessProbe": probe | {"periodSeconds": _READY_PERIOD, "failureThreshold": 3},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(plan.pre_stop_seconds)]}}},
        "resources": _resources(plan),
        "volumeMounts": volume_mounts,
    }


def _ports(plan: RolePlan, ranges: PortRanges) -> list[JsonObject]:
    """Return all ports on a host network, where the scheduler keeps pods apart by them, else the first of each use."""
    return [
        {"name": f"{use}-{offset}" if offset else use, "containerPort": first + offset}
        | ({"hostPort": first + offset} if plan.host_network else {})
        for use, (first, count) in ranges.items()
        for offset in range(count if plan.host_network else 1)
    ]


def _resources(plan: RolePlan) -> JsonObject:
    devices = {plan.resource_name: str(plan.devices_per_pod)} if plan.resource_name else {}
    wanted = plan.engine.resources
    cpu = {"cpu": wanted.cpu} if wanted and wanted.cpu else {}
    memory = {"memory": wanted.memory} if wanted and wanted.memory else {}
    return {"requests": cpu | memory | devices, "limits": memory | devices}


def _mounts(plan: RolePlan, config_map: str) -> list[tuple[JsonObject, JsonObject]]:
    """Return each mount with its volume."""
    shared_memory = {"medium": "Memory", "sizeLimit": plan.shared_memory}
    mounts: list[tuple[JsonObject, JsonObject]] = [
        (_mount("launch", LAUNCH_DIRECTORY, read_only=True), {"name": "launch", "configMap": {"name": config_map}}),
        (_mount("shared-memory", "/dev/shm"), {"name": "shared-memory", "emptyDir": shared_memory}),  # noqa: S108 - where engines look for it
    ]
    mounts += [
        (_mount(driver.name, driver.path, read_only=True), _host_path(driver.name, driver.path, driver.type))
        for driver in plan.driver_mounts
    ]
    return mounts + _model_mount(plan)


def _model_mount(plan: RolePlan) -> list[tuple[JsonObject, JsonObject]]:
    source = plan.engine.model.source if plan.engine.model else None
    if source is None:
        return []
    mount = _mount("model", plan.mount_path, read_only=True)
    if source.host_path is not None:
        return [(mount, _host_path("model", source.host_path.path, "Directory"))]
    if source.persistent_volume_claim is not None:
        claim = {"claimName": source.persistent_volume_claim.claim_name, "readOnly": True}
        return [(mount, {"name": "model", "persistentVolumeClaim": claim})]
    return []


def _mount(name: str, path: str, *, read_only: bool = False) -> JsonObject:
    return {"name": name, "mountPath": path} | ({"readOnly": True} if read_only else {})


def _host_path(name: str, path: str, kind: str) -> JsonObject:
    return {"name": name, "hostPath": {"path": path, "type": kind}}
