"""Rules on what is served: image, weights, engine and accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baton.api.problems import Severity
from baton.rendering.environment import environment_of
from baton.rendering.resolve import TypedRole, is_inside
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


def _dense(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        if _is_dense(role) and role.plan.sizes.data > 1:
            yield found(role.path("parallel.data"), role=role.role.name, data=role.plan.sizes.data)


def _dense_experts(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        parallel = role.plan.engine.parallel
        if _is_dense(role) and parallel is not None and parallel.expert:
            yield found(role.path("parallel.expert"))


def _is_dense(role: TypedRole) -> bool:
    model = role.plan.engine.model
    return model is not None and bool(model.dense)


def _context_variable(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        wanted = (role.plan.engine.additional_config or {}).get("enable_dsa_cp")
        if wanted and environment_of(role.plan).get("VLLM_ASCEND_ENABLE_FLASHCOMM1") != "1":
            yield found(role.path("additionalConfig"))


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
        "use kind vLLM-Ascend with A2 or A3, and kind vLLM with NVIDIA or CPU",
    ),
    Rule(
        "dense",
        _dense,
        "role {role} has {data} DP ranks, but engines of a model without experts refuse external data parallelism and "
        "take each other's ports with internal",
        "set parallel.data to 1 and raise replicas of the role instead",
    ),
    Rule(
        "dense-experts",
        _dense_experts,
        "a model without experts has none to spread",
        "remove parallel.expert, or model.dense",
    ),
    Rule(
        "dsa-variable",
        _context_variable,
        "enable_dsa_cp needs VLLM_ASCEND_ENABLE_FLASHCOMM1=1 in images up to v0.21, which this role does not have",
        "set it in env, or remove enable_dsa_cp",
        Severity.WARNING,
    ),
)
