from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.rendering.rules import stores
from rendering_builders import pair, problems

if TYPE_CHECKING:
    from baton.api.serving import ModelServing

DECODE, SHARED = "spec.template.roles[1].engine", "spec.template.engine"
CASES: dict[str, tuple[ModelServing, str]] = {
    "store-engine": (
        pair(kind="vLLM", kvTransfer={"store": {"backend": "memcache"}}),
        f"error: {SHARED}.kvTransfer.store: vLLM has no AscendStoreConnector; remove kvTransfer.store",
    ),
    "store-master": (
        pair(decode={"kvTransfer": {"store": {}}}),
        (
            f"error: {DECODE}.kvTransfer.store: engines cannot find the Mooncake pool; set kvTransfer.store.master, or "
            "MOONCAKE_CONFIG_PATH in env and mount the file it names"
        ),
    ),
    "store-layerwise": (
        pair(decode={"kvTransfer": {"store": {"backend": "memcache", "extraConfig": {"use_layerwise": True}}}}),
        (
            f"error: {DECODE}.kvTransfer.store.extraConfig: use_layerwise is for prefill with backend memcache, and "
            "this is decode with memcache; move it to the engine of the prefill role, or remove it"
        ),
    ),
    "store-mamba": (
        pair(
            decode={"kvTransfer": {"store": {"backend": "memcache"}}, "flags": {"x": 1}}, model={"attention": "Mamba"}
        ),
        (
            f"error: {DECODE}.flags: the KV pool holds Mamba states only in aligned blocks; set mamba-cache-mode: "
            "align in flags"
        ),
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_says_what_is_wrong_and_how_to_mend_it(rule: str) -> None:
    launched, message = CASES[rule]

    assert message in problems(launched, stores.RULES)


def test_every_rule_has_its_case() -> None:
    assert {rule.id for rule in stores.RULES} == set(CASES)


@pytest.mark.parametrize(
    "launched",
    [
        pair(kvTransfer={"store": {"master": "pool:50051"}}),
        pair(kvTransfer={"store": {}}, env={"MOONCAKE_CONFIG_PATH": "/pool/config.json"}),
        pair(kvTransfer={"store": {"backend": "memcache"}}),
        pair(prefill={"kvTransfer": {"store": {"backend": "memcache", "extraConfig": {"use_layerwise": True}}}}),
        pair(
            kvTransfer={"store": {"backend": "memcache"}},
            model={"attention": "Mamba"},
            flags={"mamba_cache_mode": "align"},
        ),
    ],
    ids=["master", "own-file", "memcache", "layerwise", "mamba"],
)
def test_what_pools_can_do_is_right(launched: ModelServing) -> None:
    assert problems(launched, stores.RULES) == []
