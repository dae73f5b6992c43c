"""Rules of the single connectors: what each refuses at its start, or fails at later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from baton.api.endpoints import Phase
from baton.api.engine import Attention
from baton.api.kv_transfer import KVConnector, LoadFailurePolicy
from baton.rendering.plan import KVTransferPlan
from baton.rendering.resolve import TypedRole
from baton.rendering.rules.rule import Finding, Group, Rule, found

_OFF: Final = {"", "0"}
_SPLITTING: Final = (KVConnector.MOONCAKE_V1, KVConnector.MOONCAKE_LAYERWISE)
"""Connectors with context parallelism."""


def _using(group: Group, connector: KVConnector) -> tuple[TypedRole, ...]:
    return tuple(role for role in group.typed if role.plan.kv is not None and role.plan.kv.connector is connector)


def _attention(role: TypedRole) -> Attention | None:
    return role.plan.engine.model.attention if role.plan.engine.model else None


def _context(role: TypedRole) -> int:
    return role.plan.sizes.prefill_context * role.plan.decode_context


def _hybrid_context(group: Group) -> Iterator[Finding]:
    for role in _using(group, KVConnector.MOONCAKE_HYBRID):
        if _context(role) != 1:
            yield found(role.path("parallel"))


def _hybrid_mamba(group: Group) -> Iterator[Finding]:
    for prefill, decode in group.pairs(KVConnector.MOONCAKE_HYBRID):
        one, other = prefill.plan.sizes.tensor, decode.plan.sizes.tensor
        if _attention(prefill) is Attention.MAMBA and one != other:
            yield found(prefill.path("parallel.tensor"), prefill=one, decode=other)


def _hybrid_cache(group: Group) -> Iterator[Finding]:
    for role in _using(group, KVConnector.MOONCAKE_HYBRID):
        if _attention(role) is Attention.GROUPED_QUERY and role.plan.engine.hybrid_kv_cache_manager:
            yield found(role.path("kvTransfer.connector"))


def _pipeline_and_context(group: Group) -> Iterator[Finding]:
    for role in _using(group, KVConnector.MOONCAKE_V1):
        sizes = role.plan.sizes
        if sizes.pipeline > 1 and sizes.prefill_context > 1:
            yield found(role.path("parallel.prefillContext"))


def _context_ratio(group: Group) -> Iterator[Finding]:
    for prefill, decode in (pair for connector in _SPLITTING for pair in group.pairs(connector)):
        if _context(prefill) % _context(decode):
            yield found(decode.path("parallel.decodeContext"), prefill=_context(prefill), decode=_context(decode))


def _context_blocks(group: Group) -> Iterator[Finding]:
    """Check that with context parallel decode its blocks hold whole blocks of prefill, spread evenly."""
    for prefill, decode in group.pairs(KVConnector.MOONCAKE_V1):
        one, other = prefill.plan.engine.block_size, decode.plan.engine.block_size
        if not (one and other) or _context(decode) == 1 or one == other:
            continue
        if other % one or (_context(prefill) // _context(decode)) % (other // one):
            yield found(decode.path("blockSize"), prefill=one, decode=other)


def _context_heads(group: Group) -> Iterator[Finding]:
    for prefill, decode in (pair for connector in _SPLITTING for pair in group.pairs(connector)):
        heads = prefill.plan.engine.model.kv_heads if prefill.plan.engine.model else None
        is_split = _context(prefill) * _context(decode) > 1 and _attention(prefill) is Attention.GROUPED_QUERY
        if not heads or not is_split:
            continue
        one, other = (-(-heads // role.plan.sizes.tensor) for role in (prefill, decode))
        if other % one:
            yield found(decode.path("parallel.tensor"), prefill=one, decode=other)


def _blocks(group: Group) -> Iterator[Finding]:
    for prefill, decode in group.pairs(KVConnector.MOONCAKE_V1):
        one, other = prefill.plan.engine.block_size, decode.plan.engine.block_size
        if one and other and max(one, other) % min(one, other):
            yield found(decode.path("blockSize"), prefill=one, decode=other)


def _wide_tensor(group: Group) -> Iterator[Finding]:
    """Check that prefill's tensor ranks share KV heads evenly when there are more ranks than heads."""
    for role in group.of(Phase.PREFILL):
        heads = role.plan.engine.model.kv_heads if role.plan.engine.model else None
        tensor = role.plan.sizes.tensor
        is_copied = role.plan.kv is not None and role.plan.kv.is_mooncake and _attention(role) is not Attention.LATENT
        if is_copied and heads and tensor > heads and tensor % (tensor // heads):
            yield found(role.path("parallel.tensor"), tensor=tensor, heads=heads)


def _layerwise_context(group: Group) -> Iterator[Finding]:
    for role in _using(group, KVConnector.MOONCAKE_LAYERWISE):
        if role.plan.phase is Phase.DECODE and role.plan.sizes.prefill_context != 1:
            yield found(role.path("parallel.prefillContext"))


def _layerwise_heads(group: Group) -> Iterator[Finding]:
    for role in _using(group, KVConnector.MOONCAKE_LAYERWISE):
        heads = role.plan.engine.model.kv_heads if role.plan.engine.model else None
        tensor = role.plan.sizes.tensor
        if _attention(role) is Attention.GROUPED_QUERY and heads and max(heads, tensor) % min(heads, tensor):
            yield found(role.path("parallel.tensor"), tensor=tensor, heads=heads)


def _layerwise_request(group: Group) -> Iterator[Finding]:
    for role in _using(group, KVConnector.MOONCAKE_LAYERWISE):
        if (role.plan.engine.env or {}).get("VLLM_DISABLE_REQUEST_ID_RANDOMIZATION", "0") not in _OFF:
            yield found(role.path("env"))


def _recompute(group: Group) -> Iterator[Finding]:
    for role in _using(group, KVConnector.MOONCAKE_HYBRID):
        if role.plan.kv is not None and role.plan.kv.failure_policy is LoadFailurePolicy.RECOMPUTE:
            yield found(role.path("kvTransfer.loadFailurePolicy"))


def _layers(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        kv, blocks = role.plan.kv, role.plan.engine.kv_transfer_extra_config or {}
        block = blocks.get("prefill")
        if kv is None or not isinstance(block, dict) or block.get("pp_layer_partition") is None:
            continue
        if not _is_partition(block["pp_layer_partition"], kv):
            yield found(
                role.path("kvTransferExtraConfig.prefill"),
                partition=block["pp_layer_partition"],
                pipeline=kv.prefill.pipeline,
            )


def _is_partition(value: Any, kv: KVTransferPlan) -> bool:
    parts = value.split(",") if isinstance(value, str) else value
    return (
        isinstance(parts, list)
        and len(parts) == kv.prefill.pipeline
        and all(not isinstance(part, bool) and str(part).strip().isdecimal() for part in parts)
    )


RULES: Final = (
    Rule(
        "hybrid-context",
        _hybrid_context,
        "MooncakeHybridConnector knows no context parallelism",
        "remove prefillContext and decodeContext, or use MooncakeConnectorV1",
    ),
    Rule(
        "hybrid-mamba",
        _hybrid_mamba,
        "prefill tensor is {prefill} and decode tensor {decode}, but MooncakeHybridConnector moves Mamba states only "
        "between equal sizes",
        "give parallel.tensor the same value on both sides, or use MooncakeConnectorV1",
    ),
    Rule(
        "hybrid-cache",
        _hybrid_cache,
        "MooncakeHybridConnector cannot read the hybrid KV cache of a model with GQA",
        "use MooncakeConnectorV1, or set hybridKvCacheManager: false",
    ),
    Rule(
        "pipeline-and-context",
        _pipeline_and_context,
        "MooncakeConnectorV1 cannot have pipeline and prefillContext above 1 at the same time",
        "remove one of them",
    ),
    Rule(
        "context-ratio",
        _context_ratio,
        "prefillContext · decodeContext is {prefill} in prefill and {decode} in decode, which does not divide it",
        "choose the product of prefill as a multiple of decode's",
    ),
    Rule(
        "context-blocks",
        _context_blocks,
        "blockSize is {prefill} in prefill and {decode} in decode, which context parallelism cannot spread evenly",
        "give blockSize the same value on both sides",
    ),
    Rule(
        "context-heads",
        _context_heads,
        "prefill has {prefill} KV heads a rank and decode {decode}, which is no multiple, as context parallelism needs",
        "choose parallel.tensor of decode so that it is",
    ),
    Rule(
        "block-multiple",
        _blocks,
        "blockSize is {prefill} in prefill and {decode} in decode, and none is a multiple of the other",
        "choose equal sizes, or one as a multiple of the other",
    ),
    Rule(
        "wide-tensor",
        _wide_tensor,
        "prefill tensor {tensor} over {heads} KV heads gives them uneven numbers of ranks",
        "choose parallel.tensor as a multiple of model.kvHeads",
    ),
    Rule(
        "layerwise-context",
        _layerwise_context,
        "decode of MooncakeLayerwiseConnector knows no prefill context parallelism",
        "remove parallel.prefillContext from decode",
    ),
    Rule(
        "layerwise-heads",
        _layerwise_heads,
        "{heads} KV heads and tensor {tensor}: none is a multiple of the other, so heads do not split over ranks",
        "choose parallel.tensor as a divisor or a multiple of model.kvHeads",
    ),
    Rule(
        "layerwise-request-id",
        _layerwise_request,
        "VLLM_DISABLE_REQUEST_ID_RANDOMIZATION takes away the suffix that MooncakeLayerwiseConnector cuts off",
        "remove it from env",
    ),
    Rule(
        "failure-policy",
        _recompute,
        "models of MooncakeHybridConnector cannot recompute a KV cache that did not arrive",
        "remove kvTransfer.loadFailurePolicy; the router then starts such a request again",
    ),
    Rule(
        "layers",
        _layers,
        "pp_layer_partition {partition!r} is not one whole number for each of {pipeline} pipeline stages",
        "write a list of numbers, one a stage of prefill, that add up to the model's layers",
    ),
)
