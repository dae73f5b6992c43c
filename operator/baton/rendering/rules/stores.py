"""Rules of the shared KV pool beside the hand-over (AscendStoreConnector)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baton.api.endpoints import Phase
from baton.api.engine import Attention
from baton.api.kv_transfer import StoreBackend
from baton.rendering.arguments import canonical_flags
from baton.rendering.environment import environment_of
from baton.rendering.plan import StorePlan
from baton.rendering.resolve import TypedRole
from baton.rendering.rules.rule import Finding, Group, Rule, found


def _stores(group: Group) -> Iterator[tuple[TypedRole, StorePlan]]:
    for role in group.typed:
        if role.plan.kv is not None and role.plan.kv.store is not None:
            yield role, role.plan.kv.store


def _wrong_engine(group: Group) -> Iterator[Finding]:
    for role, _ in _stores(group):
        if role.plan.kv is not None and not role.plan.kv.is_mooncake:
            yield found(role.path("kvTransfer.store"), kind=role.plan.kind)


def _no_master(group: Group) -> Iterator[Finding]:
    for role, store in _stores(group):
        if store.backend is StoreBackend.MOONCAKE and "MOONCAKE_CONFIG_PATH" not in environment_of(role.plan):
            yield found(role.path("kvTransfer.store"))


def _layerwise(group: Group) -> Iterator[Finding]:
    for role, store in _stores(group):
        fits = role.plan.phase is Phase.PREFILL and store.backend is StoreBackend.MEMCACHE
        if store.extra_config.get("use_layerwise") and not fits:
            yield found(role.path("kvTransfer.store.extraConfig"), phase=role.plan.phase, backend=store.backend)


def _mamba(group: Group) -> Iterator[Finding]:
    for role, _ in _stores(group):
        model = role.plan.engine.model
        mode = canonical_flags(role.plan.engine.flags or {}).get("mamba-cache-mode")
        if model is not None and model.attention is Attention.MAMBA and mode != "align":
            yield found(role.path("flags"))


RULES: Final = (
    Rule("store-engine", _wrong_engine, "{kind} has no AscendStoreConnector", "remove kvTransfer.store"),
    Rule(
        "store-master",
        _no_master,
        "engines cannot find the Mooncake pool",
        "set kvTransfer.store.master, or MOONCAKE_CONFIG_PATH in env and mount the file it names",
    ),
    Rule(
        "store-layerwise",
        _layerwise,
        "use_layerwise is for prefill with backend memcache, and this is {phase} with {backend}",
        "move it to the engine of the prefill role, or remove it",
    ),
    Rule(
        "store-mamba",
        _mamba,
        "the KV pool holds Mamba states only in aligned blocks",
        "set mamba-cache-mode: align in flags",
    ),
)
