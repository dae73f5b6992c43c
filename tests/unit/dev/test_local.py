from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.dev.binaries import find_cache
from baton.dev.local import LocalControlPlane
from baton.dev.pins import PACKAGES, find_module, read_pins
from baton.dev.provider import ControlPlaneError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "state"


def test_what_was_never_started_is_down_and_stays_away(state: Path) -> None:
    control_plane = LocalControlPlane(name="never")
    assert not control_plane.status().is_up
    assert control_plane.pod_address_range is None
    control_plane.down()
    assert not state.exists()


def test_paths_are_known_before_the_start(state: Path, tmp_path: Path) -> None:
    control_plane = LocalControlPlane(name="demo")
    assert control_plane.kubeconfig == state / "baton" / "dev" / "demo" / "kubeconfig"
    assert control_plane.kubectl.is_relative_to(tmp_path / "cache")
    assert control_plane.simulates_pods


@pytest.mark.parametrize("nodes", [-1, 5001])
def test_too_many_nodes_are_refused(nodes: int) -> None:
    with pytest.raises(ControlPlaneError, match="between 0 and 5000"):
        LocalControlPlane(nodes=nodes)


@pytest.fixture
def binaries() -> Path:
    """The cache, with stand-ins for all programs that do nothing."""
    directory = find_cache(read_pins(find_module()))
    directory.mkdir(parents=True)
    for name in PACKAGES:
        write_program(directory / name, "exec sleep 60")
    return directory


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_taken_address_is_tried_again_elsewhere_but_not_for_ever(binaries: Path, tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    write_program(binaries / "etcd", f"echo x >> {attempts}; echo 'listen tcp: bind: address already in use'; exit 1")
    control_plane = LocalControlPlane(name="demo")
    with pytest.raises(ControlPlaneError, match="address already in use"):
        control_plane.up()
    assert attempts.read_text() == "x\n" * 5
    assert not control_plane.status().components


def test_a_program_that_fails_is_not_tried_again(binaries: Path, tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    write_program(binaries / "etcd", f"echo x >> {attempts}; echo 'disk is full'; exit 1")
    with pytest.raises(ControlPlaneError, match=r"etcd ended by itself\. The end of .*/etcd\.log:\ndisk is full"):
        LocalControlPlane(name="demo").up()
    assert attempts.read_text() == "x\n"


def test_without_go_nothing_is_left_behind(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    control_plane = LocalControlPlane(name="demo")
    with pytest.raises(ControlPlaneError, match="not on PATH"):
        control_plane.up()
    assert not control_plane.status().components
