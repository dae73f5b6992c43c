from __future__ import annotations

from typing import Any

import pytest

from baton.rendering.rules import model
from rendering_builders import problems, role, serving

PATH = "spec.template.engine"
HERE = {"hostPath": {"path": "/models"}}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "image": (
        {"image": None},
        (
            "error: spec.template.roles[0].engine.image: role server has no image; set engine.image to the container "
            "image of the engine"
        ),
    ),
    "model-path": (
        {"model": {"path": "m"}},
        (
            f"error: {PATH}.model.path: role server has no model directory; set model.path to the absolute directory "
            "of the weights inside the pod"
        ),
    ),
    "model-source": (
        {"model": {"source": HERE | {"persistentVolumeClaim": {"claimName": "weights"}}}},
        (
            f"error: {PATH}.model.source: the weights come from exactly one place; set either hostPath or "
            "persistentVolumeClaim, or remove source when the image holds the weights"
        ),
    ),
    "model-mount": (
        {"model": {"source": HERE | {"mountPath": "/data"}}},
        (
            f"error: {PATH}.model.source.mountPath: the weights are mounted at '/data', but model.path '/models/m' is "
            "not inside; mount them at a directory above model.path, or correct model.path"
        ),
    ),
    "accelerator-engine": (
        {"accelerator": {"type": "NVIDIA"}},
        (
            f"error: {PATH}.accelerator.type: vLLM-Ascend does not run on NVIDIA; use kind vLLM-Ascend with A2 or A3, "
            "and kind vLLM with NVIDIA or CPU"
        ),
    ),
    "dense": (
        {"model": {"dense": True}, "parallel": {"data": 2}},
        (
            f"error: {PATH}.parallel.data: role server has 2 DP ranks, but engines of a model without experts refuse "
            "external data parallelism and take each other's ports with internal; set parallel.data to 1 and raise "
            "replicas of the role instead"
        ),
    ),
    "dense-experts": (
        {"model": {"dense": True}, "parallel": {"expert": True}},
        (
            f"error: {PATH}.parallel.expert: a model without experts has none to spread; remove parallel.expert, or "
            "model.dense"
        ),
    ),
    "dsa-variable": (
        {"additionalConfig": {"enable_dsa_cp": True}, "env": {"VLLM_ASCEND_ENABLE_FLASHCOMM1": "0"}},
        (
            f"warning: {PATH}.additionalConfig: enable_dsa_cp needs VLLM_ASCEND_ENABLE_FLASHCOMM1=1 in images up to "
            "v0.21, which this role does not have; set it in env, or remove enable_dsa_cp"
        ),
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_says_what_is_wrong_and_how_to_mend_it(rule: str) -> None:
    engine, message = CASES[rule]

    assert problems(serving(role(), engine=engine), model.RULES) == [message]


def test_every_rule_has_its_case() -> None:
    assert {rule.id for rule in model.RULES} == set(CASES)


@pytest.mark.parametrize("source", [HERE, {"persistentVolumeClaim": {"claimName": "weights"}}, None])
def test_one_source_or_none_is_right(source: object) -> None:
    assert problems(serving(role(), engine={"model": {"source": source}}), model.RULES) == []
