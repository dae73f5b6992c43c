from __future__ import annotations

import pytest

from baton.rendering.rules import hand_over
from rendering_builders import pair, problems, role, serving

PREFILL, DECODE = "spec.template.roles[0].engine", "spec.template.roles[1].engine"
CASES = {
    "alone": (
        serving(role("prefill")),
        (
            f"error: {PREFILL}.phase: role prefill does prefill, but no typed role of the group does decode; add a "
            "role with phase decode, or set phase: aggregated"
        ),
    ),
    "connector-engine": (
        pair(prefill={"kvTransfer": {"connector": "NixlConnector"}}, decode={"kvTransfer": {"connector": None}}),
        (
            f"error: {PREFILL}.kvTransfer.connector: vLLM-Ascend has no connector NixlConnector; use a Mooncake "
            "connector with vLLM-Ascend, NixlConnector with vLLM"
        ),
    ),
    "tensor-order": (
        pair(prefill={"parallel": {"tensor": 1}}, decode={"parallel": {"tensor": 2}}),
        (
            f"error: {PREFILL}.parallel.tensor: prefill tensor 1 is smaller than decode tensor 2, which Mooncake "
            "connectors refuse; raise parallel.tensor of prefill or lower that of decode"
        ),
    ),
    "tensor-multiple": (
        pair(prefill={"parallel": {"tensor": 3}}, decode={"parallel": {"tensor": 2}}),
        (
            f"error: {PREFILL}.parallel.tensor: prefill tensor 3 and decode tensor 2: none is a multiple of the other, "
            "KV heads do not match; choose parallel.tensor of prefill as a multiple of decode's, or say "
            "model.attention: MLA if that is so"
        ),
    ),
    "decode-pipeline": (
        pair(decode={"parallel": {"pipeline": 2}}),
        (
            f"error: {DECODE}.parallel.pipeline: decode has pipeline 2, MooncakeHybridConnector needs 1; "
            "remove parallel.pipeline from decode"
        ),
    ),
    "phase-sizes": (
        serving(role("prefill"), role("decode"), role("more", phase="prefill", parallel={"data": 2})),
        (
            "error: spec.template.roles[2].engine.parallel: roles prefill and more both do prefill with different "
            "parallel sizes, but the other side knows only one; give them equal data, tensor and pipeline, or put them "
            "into different ModelServings"
        ),
    ),
    "sides-equal": (
        pair(decode={"blockSize": 64}),
        (
            f"error: {DECODE}.blockSize: blockSize is unset in prefill and 64 in decode; they cannot hand over to each "
            "other; write blockSize once, in spec.template.engine"
        ),
    ),
    "sides-alike": (
        pair(prefill={"seed": 1}, decode={"seed": 2}),
        (
            f"warning: {DECODE}.seed: seed is 1 in prefill and 2 in decode, which are usually equal; write seed once, "
            "in spec.template.engine, unless this is meant"
        ),
    ),
    "sizes-computed": (
        pair(
            kvTransferExtraConfig={"decode": {"dp_size": 1}, "other": 1},
            decode={"kvTransferExtraConfig": {"decode": None}},
        ),
        (
            "error: spec.template.engine.kvTransferExtraConfig.decode: decode of the KV transfer's extra configuration "
            "is computed from the roles and says something else here; remove it and set parallel of the roles"
        ),
    ),
    "unused-transfer": (
        serving(role(), engine={"kvTransfer": {"port": 9000}}),
        (
            "warning: spec.template.engine.kvTransfer: role server is aggregated and transfers no KV cache; remove "
            "kvTransfer, or set phase of the roles"
        ),
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_says_what_is_wrong_and_how_to_mend_it(rule: str) -> None:
    launched, message = CASES[rule]

    assert message in problems(launched, hand_over.RULES)


def test_every_rule_has_its_case() -> None:
    assert {rule.id for rule in hand_over.RULES} == set(CASES)


@pytest.mark.parametrize(
    ("field", "prefill", "decode"),
    [
        ("model.servedName", {"model": {"servedName": "a"}}, {"model": {"servedName": "b"}}),
        (
            "kvTransfer.connector",
            {"kvTransfer": {"connector": "MooncakeConnectorV1"}},
            {"kvTransfer": {"connector": "MooncakeHybridConnector"}},
        ),
        ("kind", {"kind": "vLLM"}, {"kind": "vLLM-Ascend"}),
    ],
)
def test_sides_that_cannot_understand_each_other_are_refused(
    field: str, prefill: dict[str, object], decode: dict[str, object]
) -> None:
    assert [line for line in problems(pair(prefill, decode), hand_over.RULES) if f"error: {DECODE}.{field}:" in line]


def test_mooncake_v1_allows_different_block_sizes() -> None:
    launched = pair(decode={"blockSize": 64}, kvTransfer={"connector": "MooncakeConnectorV1"})

    assert problems(launched, hand_over.RULES) == []


def test_latent_attention_fits_any_smaller_decode() -> None:
    sizes = {"prefill": {"parallel": {"tensor": 3}}, "decode": {"parallel": {"tensor": 2}}}

    assert problems(pair(**sizes, model={"attention": "MLA"}), hand_over.RULES) == []


@pytest.mark.parametrize("block", [{"dp_size": 2, "tp_size": 2}, {"pp_size": 1}, {"pp_layer_partition": [61]}], ids=str)
def test_extra_configuration_may_repeat_the_sizes_and_add_to_them(block: dict[str, object]) -> None:
    assert problems(pair(kvTransferExtraConfig={"prefill": block}), hand_over.RULES) == []


@pytest.mark.parametrize("block", [{"dp_size": "2"}, {"tp_size": 2.0}, {"pp_size": True}, 2], ids=str)
def test_extra_configuration_cannot_say_other_sizes(block: object) -> None:
    (problem,) = problems(pair(prefill={"kvTransferExtraConfig": {"prefill": block}}), hand_over.RULES)

    assert "computed from the roles" in problem


def test_nixl_needs_a_decode_of_one_pipeline_stage() -> None:
    (problem,) = problems(pair(decode={"parallel": {"pipeline": 2}}, kind="vLLM"), hand_over.RULES)

    assert "decode has pipeline 2, NixlConnector needs 1" in problem


def test_chat_templates_that_differ_are_doubtful() -> None:
    (problem,) = problems(pair(decode={"flags": {"chat_template": "/t.jinja"}}), hand_over.RULES)

    assert problem.startswith(f"warning: {DECODE}.flags: chat-template is unset in prefill and /t.jinja in decode")


def test_nixl_hands_over_to_more_tensor_ranks() -> None:
    launched = pair(decode={"parallel": {"data": 2, "tensor": 4}}, kind="vLLM")

    assert problems(launched, hand_over.RULES) == []


def test_several_equal_roles_of_a_phase_are_right() -> None:
    launched = serving(role("prefill"), role("decode"), role("more", phase="prefill"))

    assert problems(launched, hand_over.RULES) == []
