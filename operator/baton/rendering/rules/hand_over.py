"""Rules on what prefill and decode of one ServingGroup must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from baton.api.endpoints import Phase
from baton.api.engine import Attention, Engine, EngineKind
from baton.api.kv_transfer import KVConnector
from baton.api.problems import Severity
from baton.rendering.arguments import canonical_flags
from baton.rendering.plan import Sizes
from baton.rendering.resolve import TypedRole
from baton.rendering.rules.rule import Finding, Group, Rule, found

_OTHER: Final = {Phase.PREFILL: Phase.DECODE, Phase.DECODE: Phase.PREFILL}


def _alone(group: Group) -> Iterator[Finding]:
    for phase, other in _OTHER.items():
        for role in group.of(phase):
            if not group.of(other):
                yield found(
                    f"spec.template.roles[{role.index}].engine.phase", role=role.role.name, phase=phase, other=other
                )


def _wrong_connector(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        kv, kind = role.plan.kv, role.plan.kind
        if kv is not None and kv.is_mooncake != (kind is EngineKind.VLLM_ASCEND):
            yield found(role.path("kvTransfer.connector"), connector=kv.connector, kind=kind)


def _tensor_order(group: Group) -> Iterator[Finding]:
    for prefill, decode in group.pairs():
        high, low = prefill.plan.sizes.tensor, decode.plan.sizes.tensor
        if _is_mooncake(prefill) and high < low:
            yield found(prefill.path("parallel.tensor"), prefill=high, decode=low)


def _indivisible(group: Group) -> Iterator[Finding]:
    for prefill, decode in group.pairs():
        one, other = prefill.plan.sizes.tensor, decode.plan.sizes.tensor
        model = prefill.plan.engine.model
        is_exempt = _is_mooncake(prefill) and model is not None and model.attention is Attention.LATENT
        is_refused_anyway = _is_mooncake(prefill) and one < other
        if max(one, other) % min(one, other) and not (is_exempt or is_refused_anyway):
            yield found(prefill.path("parallel.tensor"), prefill=one, decode=other)


def _decode_pipeline(group: Group) -> Iterator[Finding]:
    for role in group.of(Phase.DECODE):
        kv, pipeline = role.plan.kv, role.plan.sizes.pipeline
        if kv is not None and pipeline != 1:
            yield found(role.path("parallel.pipeline"), pipeline=pipeline, connector=kv.connector)


def _is_mooncake(role: TypedRole) -> bool:
    return role.plan.kv is not None and role.plan.kv.is_mooncake


def _different_sizes(group: Group) -> Iterator[Finding]:
    for phase in _OTHER:
        roles = group.of(phase)
        for role in roles[1:]:
            if role.plan.sizes != roles[0].plan.sizes:
                yield found(role.path("parallel"), one=roles[0].role.name, other=role.role.name, phase=phase)


def _different(group: Group) -> Iterator[Finding]:
    for prefill, decode in group.pairs():
        one, other = prefill.plan, decode.plan
        if one.kv is None or other.kv is None:
            continue
        pairs: list[tuple[str, object, object]] = [
            ("kind", one.kind, other.kind),
            ("kvTransfer.connector", one.kv.connector, other.kv.connector),
            ("model.servedName", one.served_name, other.served_name),
        ]
        if one.kv.connector is not KVConnector.MOONCAKE_V1:
            pairs.append(("blockSize", one.engine.block_size, other.engine.block_size))
        for field, here, there in pairs:
            if here != there:
                yield found(decode.path(field), field=field, prefill=here, decode=there)


def _doubtful(group: Group) -> Iterator[Finding]:
    for prefill, decode in group.pairs():
        one, other = prefill.plan.engine, decode.plan.engine
        for path, field, here, there in (
            ("maxModelLen", "maxModelLen", one.max_model_len, other.max_model_len),
            ("seed", "seed", one.seed, other.seed),
            ("quantization", "quantization", one.quantization, other.quantization),
            ("image", "image", one.image, other.image),
            ("flags", "chat-template", _chat_template(one), _chat_template(other)),
        ):
            if here != there:
                yield found(decode.path(path), field=field, prefill=here, decode=there)


def _chat_template(engine: Engine) -> Any:
    """Return the chat template, by which both sides make the same prompt of a chat."""
    return canonical_flags(engine.flags or {}).get("chat-template")


def _sizes_overridden(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        extra, kv = role.plan.engine.kv_transfer_extra_config or {}, role.plan.kv
        if kv is None:
            continue
        for block, sizes in (("prefill", kv.prefill), ("decode", kv.decode)):
            if block in extra and not _agrees(extra[block], sizes):
                yield found(role.path(f"kvTransferExtraConfig.{block}"), block=block)


def _agrees(block: Any, sizes: Sizes) -> bool:
    """Whether a block of the extra configuration leaves the computed sizes as they are."""
    computed = {"dp_size": sizes.data, "tp_size": sizes.tensor, "pp_size": sizes.pipeline}
    return isinstance(block, dict) and all(
        type(block[name]) is int and block[name] == size for name, size in computed.items() if name in block
    )


def _unused(group: Group) -> Iterator[Finding]:
    for role in group.of(Phase.AGGREGATED):
        engine = role.plan.engine
        own = role.role.engine is not None and role.role.engine.kv_transfer is not None
        if engine.kv_transfer is not None and (own or len(group.of(Phase.AGGREGATED)) == len(group.typed)):
            yield found(role.path("kvTransfer"), role=role.role.name)


RULES: Final = (
    Rule(
        "alone",
        _alone,
        "role {role} does {phase}, but no typed role of the group does {other}",
        "add a role with phase {other}, or set phase: aggregated",
    ),
    Rule(
        "connector-engine",
        _wrong_connector,
        "{kind} has no connector {connector}",
        "use a Mooncake connector with vLLM-Ascend, NixlConnector with vLLM",
    ),
    Rule(
        "tensor-order",
        _tensor_order,
        "prefill tensor {prefill} is smaller than decode tensor {decode}, which Mooncake connectors refuse",
        "raise parallel.tensor of prefill or lower that of decode",
    ),
    Rule(
        "tensor-multiple",
        _indivisible,
        "prefill tensor {prefill} and decode tensor {decode}: none is a multiple of the other, KV heads do not match",
        "choose parallel.tensor of prefill as a multiple of decode's, or say model.attention: MLA if that is so",
    ),
    Rule(
        "decode-pipeline",
        _decode_pipeline,
        "decode has pipeline {pipeline}, {connector} needs 1",
        "remove parallel.pipeline from decode",
    ),
    Rule(
        "phase-sizes",
        _different_sizes,
        "roles {one} and {other} both do {phase} with different parallel sizes, but the other side knows only one",
        "give them equal data, tensor and pipeline, or put them into different ModelServings",
    ),
    Rule(
        "sides-equal",
        _different,
        "{field} is {prefill} in prefill and {decode} in decode; they cannot hand over to each other",
        "write {field} once, in spec.template.engine",
    ),
    Rule(
        "sides-alike",
        _doubtful,
        "{field} is {prefill} in prefill and {decode} in decode, which are usually equal",
        "write {field} once, in spec.template.engine, unless this is meant",
        Severity.WARNING,
    ),
    Rule(
        "unused-transfer",
        _unused,
        "role {role} is aggregated and transfers no KV cache",
        "remove kvTransfer, or set phase of the roles",
        Severity.WARNING,
    ),
    Rule(
        "sizes-computed",
        _sizes_overridden,
        "{block} of the KV transfer's extra configuration is computed from the roles and says something else here",
        "remove it and set parallel of the roles",
    ),
)
