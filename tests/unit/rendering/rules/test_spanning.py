from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from baton.rendering.rules import spanning
from rendering_builders import pair, problems, role, serving

if TYPE_CHECKING:
    from baton.api.serving import ModelServing

PREFILL, DECODE = "spec.template.roles[0].engine", "spec.template.roles[1].engine"


def _wide(connector: str, prefill: dict[str, Any] | None = None, **engine: Any) -> ModelServing:
    """Return a pair whose prefill rank takes two A3 nodes."""
    parallel = {"data": 1, "tensor": 32} | (prefill or {})
    return pair(prefill={"parallel": parallel}, kvTransfer={"connector": connector}, **engine)


CASES: dict[str, tuple[ModelServing, str]] = {
    "spanning-alone": (
        serving(role(parallel={"data": 2, "tensor": 16, "pipeline": 2})),
        (
            f"error: {PREFILL}.parallel.tensor: a DP rank takes tensor · pipeline · prefillContext = 32 devices, a "
            "node has 16, and of ranks that span nodes a replica holds one, not 2; set parallel.data to 1 and raise "
            "replicas of the role, or lower tensor, pipeline or prefillContext"
        ),
    ),
    "spanning-evenly": (
        serving(role(parallel={"tensor": 17})),
        (
            f"error: {PREFILL}.parallel.tensor: the 17 devices of a DP rank do not spread evenly over 2 nodes; choose "
            "tensor, pipeline and prefillContext so that their product is a multiple of 2"
        ),
    ),
    "spanning-executor": (
        serving(role(parallel={"tensor": 32}, flags={"distributed_executor_backend": "ray"})),
        (
            f"error: {PREFILL}.flags: a DP rank that spans nodes runs by vLLM's executor mp, not ray; remove "
            "distributed-executor-backend from flags"
        ),
    ),
    "spanning-stages": (
        _wide("MooncakeHybridConnector", {"tensor": 16, "pipeline": 2}),
        (
            f"error: {PREFILL}.parallel.pipeline: decode of MooncakeHybridConnector does not find the pipeline stages "
            "of prefill on other nodes; use MooncakeConnectorV1, or spread prefill by parallel.tensor alone"
        ),
    ),
    "spanning-ports": (
        _wide("MooncakeConnectorV1", decode={"kvTransfer": {"port": 30010}}),
        (
            f"error: {DECODE}.kvTransfer.port: decode of MooncakeConnectorV1 finds the nodes of prefill by ports "
            "counted from its own 30010, which leads to the wrong node when prefill's 32 ports begin at 30000; give "
            "kvTransfer.port the same value on both sides, or values at least 32 apart"
        ),
    ),
    "spanning-layerwise": (
        _wide("MooncakeLayerwiseConnector", decode={"parallel": {"data": 1, "tensor": 32}}),
        (
            f"error: {DECODE}.parallel.tensor: prefill of MooncakeLayerwiseConnector looks for all devices of a decode "
            "rank on one node; lower parallel.tensor of decode to what a node holds, or use MooncakeConnectorV1"
        ),
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_says_what_is_wrong_and_how_to_mend_it(rule: str) -> None:
    launched, message = CASES[rule]

    assert problems(launched, spanning.RULES) == [message]


def test_every_rule_has_its_case() -> None:
    assert {rule.id for rule in spanning.RULES} == set(CASES)


@pytest.mark.parametrize(
    "launched",
    [
        serving(role(parallel={"tensor": 24})),
        serving(role(parallel={"tensor": 32}, flags={"distributed-executor-backend": "mp"})),
        serving(role(parallel={"data": 2}, flags={"distributed-executor-backend": "ray"})),
        _wide("MooncakeHybridConnector"),
        _wide("MooncakeConnectorV1", {"tensor": 16, "pipeline": 2}),
        _wide("MooncakeConnectorV1", {"tensor": 16, "prefillContext": 2}, decode={"kvTransfer": {"port": 30032}}),
        _wide("MooncakeConnectorV1", decode={"kvTransfer": {"port": 30000}}),
        _wide("MooncakeLayerwiseConnector"),
        pair(decode={"kvTransfer": {"port": 30001}}, kvTransfer={"connector": "MooncakeConnectorV1"}),
    ],
    ids=["uneven size", "mp", "one node", "hybrid", "stages", "context", "equal ports", "layerwise", "near ports"],
)
def test_ranks_that_span_nodes_may_hand_over(launched: ModelServing) -> None:
    assert problems(launched, spanning.RULES) == []
