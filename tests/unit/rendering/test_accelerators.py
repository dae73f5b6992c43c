from __future__ import annotations

from baton.api.engine import AcceleratorType, EngineKind
from baton.rendering.accelerators import ACCELERATORS


def test_every_accelerator_has_facts() -> None:
    assert set(ACCELERATORS) == set(AcceleratorType)


def test_driver_mounts_are_absolute_and_told_apart() -> None:
    for facts in ACCELERATORS.values():
        assert all(mount.path.startswith("/") for mount in facts.driver_mounts)
        assert len({mount.name for mount in facts.driver_mounts}) == len(facts.driver_mounts)


def test_only_ascend_needs_its_driver_mounted() -> None:
    for facts in ACCELERATORS.values():
        assert bool(facts.driver_mounts) is (facts.engine is EngineKind.VLLM_ASCEND)
