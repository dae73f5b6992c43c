from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from baton.rendering.rules import speculation
from rendering_builders import pair, problems

if TYPE_CHECKING:
    from baton.api.serving import ModelServing

PREFILL, DECODE = "spec.template.roles[0].engine", "spec.template.roles[1].engine"


def _draft(prefill: int, decode: int, method: str = "mtp", **engine: Any) -> ModelServing:
    return pair(
        prefill={"speculativeConfig": {"num_speculative_tokens": prefill, "method": method}},
        decode={"speculativeConfig": {"num_speculative_tokens": decode, "method": method}},
        **engine,
    )


CASES = {
    "draft-equal": (
        _draft(1, 3, model={"attention": "Mamba"}),
        (
            f"warning: {DECODE}.speculativeConfig: prefill speculates 1 token(s) and decode 3, but models of this kind "
            "need equal numbers; write speculativeConfig once, in spec.template.engine"
        ),
    ),
    "draft-prefill": (
        _draft(2, 3),
        (
            f"warning: {PREFILL}.speculativeConfig: prefill speculates 2 tokens and decode 3, while prefill makes only "
            "one token; set num_speculative_tokens of prefill to 1"
        ),
    ),
    "draft-length": (
        pair(speculativeConfig={"num_speculative_tokens": 3, "method": "dspark"}),
        (
            "warning: spec.template.engine.speculativeConfig: DSpark speculates 3 token(s), and between prefill and "
            "decode it needs at least 5; raise num_speculative_tokens to 5 or more"
        ),
    ),
    "batch-room": (
        pair(decode={"maxNumSeqs": 32, "maxNumBatchedTokens": 164, "speculativeConfig": {"num_speculative_tokens": 5}}),
        (
            f"warning: {DECODE}.maxNumBatchedTokens: 164 tokens in a batch cannot hold 32 sequences with what they "
            "speculate, which take 192; raise maxNumBatchedTokens or lower maxNumSeqs of decode"
        ),
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_says_what_is_wrong_and_how_to_mend_it(rule: str) -> None:
    launched, message = CASES[rule]

    assert problems(launched, speculation.RULES) == [message]


def test_every_rule_has_its_case() -> None:
    assert {rule.id for rule in speculation.RULES} == set(CASES)


@pytest.mark.parametrize(
    "launched",
    [
        _draft(1, 3),
        _draft(7, 7, "dspark"),
        pair(decode={"maxNumSeqs": 60, "maxNumBatchedTokens": 120}, speculativeConfig={"num_speculative_tokens": 1}),
        pair(speculativeConfig={"num_speculative_tokens": "many"}),
    ],
    ids=["usual", "dspark", "exact", "text"],
)
def test_what_is_usual_has_no_problems(launched: ModelServing) -> None:
    assert problems(launched, speculation.RULES) == []
