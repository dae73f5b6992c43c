from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from baton.rendering.rules import sizes
from rendering_builders import problems, role, serving

if TYPE_CHECKING:
    from baton.api.serving import ModelServing

PATH = "spec.template.roles[0].engine.parallel"


def _launched(**parallel: Any) -> ModelServing:
    return serving(role(parallel=parallel))


CASES = {
    "decode-context": (
        _launched(tensor=4, decodeContext=3),
        (
            f"error: {PATH}.decodeContext: decodeContext 3 does not divide tensor 4, whose devices it shares; choose "
            "parallel.decodeContext as a divisor of parallel.tensor"
        ),
    ),
    "devices": (
        _launched(data=8, dataLocal=8, tensor=4),
        (
            f"error: {PATH}.dataLocal: 8 DP ranks on a node take 32 devices, but a node has 16; lower "
            "parallel.dataLocal to at most 4"
        ),
    ),
    "uneven": (
        _launched(data=17),
        (
            f"error: {PATH}.data: 17 DP ranks do not spread evenly over 2 nodes with 9 ranks each; choose "
            "parallel.data as a multiple of the ranks on a node, or set parallel.dataLocal to a divisor of it"
        ),
    ),
    "worker-replicas": (
        serving(role(parallel={"data": 32}) | {"workerReplicas": 3}),
        (
            "error: spec.template.roles[0].workerReplicas: workerReplicas is 3, but the parallel sizes need 2 nodes, "
            "which are 1 workers; remove workerReplicas, it is computed"
        ),
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_says_what_is_wrong_and_how_to_mend_it(rule: str) -> None:
    launched, message = CASES[rule]

    assert problems(launched, sizes.RULES) == [message]


def test_every_rule_has_its_case() -> None:
    assert {rule.id for rule in sizes.RULES} == set(CASES)


@pytest.mark.parametrize(
    "parallel",
    [
        *({}, {"data": 16}, {"data": 32}, {"data": 18}, {"data": 4, "dataLocal": 1, "tensor": 16}),
        *({"data": 32, "dataMode": "Internal"}, {"tensor": 32}, {"tensor": 16, "pipeline": 2}),
    ],
)
def test_replicas_that_spread_evenly_are_right(parallel: dict[str, Any]) -> None:
    assert problems(_launched(**parallel), sizes.RULES) == []
