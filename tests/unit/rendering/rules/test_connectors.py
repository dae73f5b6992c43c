from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from baton.rendering.rules import connectors
from rendering_builders import pair, problems

if TYPE_CHECKING:
    from baton.api.serving import ModelServing

PREFILL, DECODE = "spec.template.roles[0].engine", "spec.template.roles[1].engine"
V1: dict[str, Any] = {"kvTransfer": {"connector": "MooncakeConnectorV1"}}
LAYERWISE: dict[str, Any] = {"kvTransfer": {"connector": "MooncakeLayerwiseConnector"}}


def _parallel(prefill: dict[str, int] | None = None, decode: dict[str, int] | None = None) -> dict[str, Any]:
    return {"prefill": {"parallel": prefill or {}}, "decode": {"parallel": decode or {}}}


CASES: dict[str, tuple[ModelServing, str]] = {
    "hybrid-context": (
        pair(**_parallel({"decodeContext": 2})),
        (
            f"error: {PREFILL}.parallel: MooncakeHybridConnector knows no context parallelism; remove prefillContext "
            "and decodeContext, or use MooncakeConnectorV1"
        ),
    ),
    "hybrid-mamba": (
        pair(model={"attention": "Mamba"}),
        (
            f"error: {PREFILL}.parallel.tensor: prefill tensor is 2 and decode tensor 1, but MooncakeHybridConnector "
            "moves Mamba states only between equal sizes; give parallel.tensor the same value on both sides, or use "
            "MooncakeConnectorV1"
        ),
    ),
    "hybrid-cache": (
        pair(model={"attention": "GQA"}, decode={"hybridKvCacheManager": True}),
        (
            f"error: {DECODE}.kvTransfer.connector: MooncakeHybridConnector cannot read the hybrid KV cache of a model "
            "with GQA; use MooncakeConnectorV1, or set hybridKvCacheManager: false"
        ),
    ),
    "pipeline-and-context": (
        pair(**_parallel({"pipeline": 2, "prefillContext": 2}), **V1),
        (
            f"error: {PREFILL}.parallel.prefillContext: MooncakeConnectorV1 cannot have pipeline and prefillContext "
            "above 1 at the same time; remove one of them"
        ),
    ),
    "context-ratio": (
        pair(**_parallel({"prefillContext": 3}, {"tensor": 2, "decodeContext": 2}), **V1),
        (
            f"error: {DECODE}.parallel.decodeContext: prefillContext · decodeContext is 3 in prefill and 2 in decode, "
            "which does not divide it; choose the product of prefill as a multiple of decode's"
        ),
    ),
    "context-blocks": (
        pair(
            prefill={"parallel": {"prefillContext": 2}, "blockSize": 128},
            decode={"parallel": {"tensor": 2, "decodeContext": 2}, "blockSize": 256},
            **V1,
        ),
        (
            f"error: {DECODE}.blockSize: blockSize is 128 in prefill and 256 in decode, which context parallelism "
            "cannot spread evenly; give blockSize the same value on both sides"
        ),
    ),
    "context-heads": (
        pair(
            **_parallel({"tensor": 4, "prefillContext": 2}, {"tensor": 2}),
            model={"attention": "GQA", "kvHeads": 5},
            **V1,
        ),
        (
            f"error: {DECODE}.parallel.tensor: prefill has 2 KV heads a rank and decode 3, which is no multiple, as "
            "context parallelism needs; choose parallel.tensor of decode so that it is"
        ),
    ),
    "block-multiple": (
        pair(prefill={"blockSize": 128}, decode={"blockSize": 48}, **V1),
        (
            f"error: {DECODE}.blockSize: blockSize is 128 in prefill and 48 in decode, and none is a multiple of the "
            "other; choose equal sizes, or one as a multiple of the other"
        ),
    ),
    "wide-tensor": (
        pair(**_parallel({"tensor": 5}), model={"kvHeads": 2}, **V1),
        (
            f"error: {PREFILL}.parallel.tensor: prefill tensor 5 over 2 KV heads gives them uneven numbers of ranks; "
            "choose parallel.tensor as a multiple of model.kvHeads"
        ),
    ),
    "layerwise-context": (
        pair(**_parallel({"prefillContext": 2}, {"prefillContext": 2}), **LAYERWISE),
        (
            f"error: {DECODE}.parallel.prefillContext: decode of MooncakeLayerwiseConnector knows no prefill context "
            "parallelism; remove parallel.prefillContext from decode"
        ),
    ),
    "layerwise-heads": (
        pair(prefill={"model": {"attention": "GQA", "kvHeads": 3}}, **LAYERWISE),
        (
            f"error: {PREFILL}.parallel.tensor: 3 KV heads and tensor 2: none is a multiple of the other, so heads do "
            "not split over ranks; choose parallel.tensor as a divisor or a multiple of model.kvHeads"
        ),
    ),
    "layerwise-request-id": (
        pair(prefill={"env": {"VLLM_DISABLE_REQUEST_ID_RANDOMIZATION": "1"}}, **LAYERWISE),
        (
            f"error: {PREFILL}.env: VLLM_DISABLE_REQUEST_ID_RANDOMIZATION takes away the suffix that "
            "MooncakeLayerwiseConnector cuts off; remove it from env"
        ),
    ),
    "failure-policy": (
        pair(decode={"kvTransfer": {"loadFailurePolicy": "recompute"}}),
        (
            f"error: {DECODE}.kvTransfer.loadFailurePolicy: models of MooncakeHybridConnector cannot recompute a KV "
            "cache that did not arrive; remove kvTransfer.loadFailurePolicy; the router then starts such a request "
            "again"
        ),
    ),
    "layers": (
        pair(prefill={"parallel": {"pipeline": 2}, "kvTransferExtraConfig": {"prefill": {"pp_layer_partition": [61]}}}),
        (
            f"error: {PREFILL}.kvTransferExtraConfig.prefill: pp_layer_partition [61] is not one whole number for each "
            "of 2 pipeline stages; write a list of numbers, one a stage of prefill, that add up to the model's layers"
        ),
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_says_what_is_wrong_and_how_to_mend_it(rule: str) -> None:
    launched, message = CASES[rule]

    assert message in problems(launched, connectors.RULES)


def test_layerwise_needs_as_many_heads_as_v1_with_context_parallelism() -> None:
    sizes = _parallel({"tensor": 2, "prefillContext": 2}, {"tensor": 2, "data": 1})
    heads = {"model": {"attention": "GQA", "kvHeads": 4}}
    assert problems(pair(**sizes, **heads, **LAYERWISE), connectors.RULES) == []

    smaller = _parallel({"tensor": 2, "prefillContext": 2}, {"tensor": 4, "data": 1})
    (problem,) = problems(pair(**smaller, **heads, **LAYERWISE), connectors.RULES)
    assert "prefill has 2 KV heads a rank and decode 1, which is no multiple" in problem


def test_every_rule_has_its_case() -> None:
    assert {rule.id for rule in connectors.RULES} == set(CASES)


@pytest.mark.parametrize(
    "launched",
    [
        pair(**V1, **_parallel({"prefillContext": 2, "tensor": 4}, {"tensor": 2, "decodeContext": 2})),
        pair(**V1, prefill={"blockSize": 128}, decode={"blockSize": 32}),
        pair(**V1, kvTransferExtraConfig={"prefill": {"pp_layer_partition": "61"}}),
        pair(**V1, model={"attention": "GQA", "kvHeads": 1}, hybridKvCacheManager=True),
        pair(**LAYERWISE),
        pair(
            prefill={"parallel": {"prefillContext": 4}, "blockSize": 128},
            decode={"parallel": {"tensor": 2, "decodeContext": 2}, "blockSize": 256},
            **V1,
        ),
        pair(model={"attention": "Mamba"}, **_parallel({"tensor": 1})),
        pair(kvTransfer={"loadFailurePolicy": "fail"}),
        pair(kvTransfer={"connector": "MooncakeConnectorV1", "loadFailurePolicy": "recompute"}),
        pair(kind="vLLM", accelerator={"type": "CPU"}),
    ],
    ids=range(10),
)
def test_what_connectors_can_do_is_right(launched: ModelServing) -> None:
    assert problems(launched, connectors.RULES) == []
