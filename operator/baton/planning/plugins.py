"""What the plugins of a ModelServing do to a pod before it is created. A change of theirs restarts no pod."""

from __future__ import annotations

import hashlib

from baton.api import labels
from baton.api.meta import JsonObject
from baton.api.plugins import LWS_LABELS, POD_TWEAKS, PluginTarget, PodTweaks, pod_tweaks
from baton.api.serving import ModelServing, Plugin
from baton.planning.naming import Slot


def customise(pod: JsonObject, serving: ModelServing, slot: Slot) -> JsonObject:
    """Return the pod of a slot as the plugins leave it, applied in their order."""
    for plugin in serving.spec.plugins:
        if not _concerns(plugin, slot):
            continue
        if plugin.name == POD_TWEAKS:
            pod = _tweaked(pod, pod_tweaks(plugin))
        elif plugin.name == LWS_LABELS:
            pod = _labelled(pod, serving, slot)
    return pod


def _concerns(plugin: Plugin, slot: Slot) -> bool:
    scope = plugin.scope
    if scope is None:
        return True
    kind = PluginTarget.WORKER if slot.worker else PluginTarget.ENTRY
    return slot.role in (scope.roles or (slot.role,)) and scope.target in {"", PluginTarget.ALL, kind}


def _tweaked(pod: JsonObject, tweaks: PodTweaks) -> JsonObject:
    metadata, spec = dict(pod["metadata"]), dict(pod["spec"])
    if tweaks.annotations:
        metadata["annotations"] = metadata.get("annotations", {}) | tweaks.annotations
    if tweaks.runtime_class_name:
        spec["runtimeClassName"] = tweaks.runtime_class_name
    names = {entry["name"] for entry in tweaks.env}
    for field in ("containers", "initContainers"):
        if spec.get(field) and names:
            spec[field] = [
                {**container, "env": [*_without(container.get("env") or [], names), *tweaks.env]}
                for container in spec[field]
            ]
    return {**pod, "metadata": metadata, "spec": spec}


def _without(env: list[JsonObject], names: set[str]) -> list[JsonObject]:
    return [entry for entry in env if entry.get("name") not in names]


def _labelled(pod: JsonObject, serving: ModelServing, slot: Slot) -> JsonObject:
    name = next(
        (
            owner.name
            for owner in serving.metadata.owner_references
            if owner.controller and owner.kind == "LeaderWorkerSet"
        ),
        None,
    )
    if name is None:
        return pod
    metadata = pod["metadata"]
    ours = {
        labels.LEADER_WORKER_SET_NAME: name,
        labels.LEADER_WORKER_SET_GROUP_INDEX: str(slot.group),
        labels.LEADER_WORKER_SET_WORKER_INDEX: str(slot.worker),
        labels.LEADER_WORKER_SET_GROUP_KEY: hashlib.sha1(
            f"{name}-{slot.group}".encode(), usedforsecurity=False
        ).hexdigest(),
    }
    return {**pod, "metadata": {**metadata, "labels": metadata["labels"] | ours}}
