"""Rules on what is served: image, weights, engine and accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baton.rendering.resolve import is_inside
from baton.rendering.rules.rule import Finding, Group, Rule, found


def _no_image(group: Group) -> Iterator[Finding]:
    return (found(role.path("image"), role=role.role.name) for role in group.typed if not role.plan.image)


def _no_model_path(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        if not role.plan.model_path.startswith("/"):
            yield found(role.path("model.path"), role=role.role.name)


def _bad_source(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        source = role.plan.engine.model.source if role.plan.engine.model else None
        if source is not None and (source.host_path is None) == (source.persistent_volume_claim is None):
            yield found(role.path("model.source"))


def _path_outside_source(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        mount, path = role.plan.mount_path, role.plan.model_path
        if mount and path and not (mount.startswith("/") and is_inside(path, mount)):
            yield found(role.path("model.source.mountPath"), mount=mount, model=path)


def _wrong_accelerator(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        if role.plan.facts.engine is not role.plan.kind:
            yield found(role.path("accelerator.type"), accelerator=role.plan.accelerator, kind=role.plan.kind)


RULES: Final = (
    Rule("image", _no_image, "role {role} has no image", "set engine.image to the container image of the engine"),
    Rule(
        "model-path",
        _no_model_path,
        "role {role} has no model directory",
        "set model.path to the absolute directory of the weights inside the pod",
    ),
    Rule(
        "model-source",
        _bad_source,
        "the weights come from exactly one place",
        "set either hostPath or persistentVolumeClaim, or remove source when the image holds the weights",
    ),
    Rule(
        "model-mount",
        _path_outside_source,
        "the weights are mounted at {mount!r}, but model.path {model!r} is not inside",
        "mount them at a directory above model.path, or correct model.path",
    ),
    Rule(
        "accelerator-engine",
        _wrong_accelerator,
        "{kind} does not run on {accelerator}",
        "use kind vLLM-Ascend with A2 or A3, and kind vLLM with NVIDIA",
    ),
)
