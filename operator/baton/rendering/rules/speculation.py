"""Rules on speculative decoding and on batches, which convention and not the engine checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baton.api.endpoints import Phase
from baton.api.engine import Attention
from baton.api.problems import Severity
from baton.rendering.plan import RolePlan
from baton.rendering.rules.rule import Finding, Group, Rule, found

_DSPARK_TOKENS: Final = 5
"""The least that vLLM-Ascend's DeepSeek-V4-Flash tutorial allows."""


def _tokens(plan: RolePlan) -> int:
    """Return how many tokens a step speculates; 0 without speculation or when nothing says it."""
    number = (plan.engine.speculative_config or {}).get("num_speculative_tokens")
    return number if isinstance(number, int) and not isinstance(number, bool) else 0


def _method(plan: RolePlan) -> str:
    return str((plan.engine.speculative_config or {}).get("method", "")).lower()


def _unequal(group: Group) -> Iterator[Finding]:
    for prefill, decode in group.pairs():
        model = prefill.plan.engine.model
        must_equal = (model and model.attention is Attention.MAMBA) or "dspark" in _method(decode.plan)
        one, other = _tokens(prefill.plan), _tokens(decode.plan)
        if must_equal and one != other:
            yield found(decode.path("speculativeConfig"), prefill=one, decode=other)


def _long_draft(group: Group) -> Iterator[Finding]:
    for prefill, decode in group.pairs():
        one, other = _tokens(prefill.plan), _tokens(decode.plan)
        if one > 1 and one != other:
            yield found(prefill.path("speculativeConfig"), prefill=one, decode=other)


def _short_draft(group: Group) -> Iterator[Finding]:
    for role in group.of(Phase.DECODE):
        if "dspark" in _method(role.plan) and 0 < _tokens(role.plan) < _DSPARK_TOKENS:
            yield found(role.path("speculativeConfig"), tokens=_tokens(role.plan), least=_DSPARK_TOKENS)


def _batch_room(group: Group) -> Iterator[Finding]:
    for role in group.of(Phase.DECODE):
        tokens, sequences = role.plan.engine.max_num_batched_tokens, role.plan.engine.max_num_seqs
        needed = (sequences or 0) * (1 + _tokens(role.plan))
        if tokens is not None and tokens < needed:
            yield found(role.path("maxNumBatchedTokens"), tokens=tokens, sequences=sequences, needed=needed)


RULES: Final = (
    Rule(
        "draft-equal",
        _unequal,
        "prefill speculates {prefill} token(s) and decode {decode}, but models of this kind need equal numbers",
        "write speculativeConfig once, in spec.template.engine",
        Severity.WARNING,
    ),
    Rule(
        "draft-prefill",
        _long_draft,
        "prefill speculates {prefill} tokens and decode {decode}, while prefill makes only one token",
        "set num_speculative_tokens of prefill to 1",
        Severity.WARNING,
    ),
    Rule(
        "draft-length",
        _short_draft,
        "DSpark speculates {tokens} token(s), and between prefill and decode it needs at least {least}",
        "raise num_speculative_tokens to {least} or more",
        Severity.WARNING,
    ),
    Rule(
        "batch-room",
        _batch_room,
        "{tokens} tokens in a batch cannot hold {sequences} sequences with what they speculate, which take {needed}",
        "raise maxNumBatchedTokens or lower maxNumSeqs of decode",
        Severity.WARNING,
    ),
)
