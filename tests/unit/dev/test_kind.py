from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.dev.kind import KindControlPlane
from baton.dev.provider import ControlPlaneError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on PATH, empty."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    directory = tmp_path / "programs"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def test_without_docker_the_error_names_the_ways_out() -> None:
    with pytest.raises(ControlPlaneError, match=r"not on PATH.*--provider local.*--kubeconfig"):
        KindControlPlane().up()


def test_a_stopped_docker_engine_is_named(programs: Path) -> None:
    (programs / "docker").write_text("#!/bin/sh\nexit 1\n")
    (programs / "docker").chmod(0o755)
    with pytest.raises(ControlPlaneError, match="running Docker engine"):
        KindControlPlane().up()


def test_what_was_never_started_is_down() -> None:
    assert not KindControlPlane().status().is_up


def test_an_image_goes_from_docker_to_the_nodes(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("docker", "exit 0"), ("kind", f'echo "$@" >{tmp_path}/told')):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    KindControlPlane(name="e2e").load_image("localhost/baton:1")

    assert (tmp_path / "told").read_text() == "load docker-image --name baton-e2e localhost/baton:1\n"
