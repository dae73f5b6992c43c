from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.dev.kubeconfig import KubeconfigControlPlane
from baton.dev.provider import ControlPlaneError, Node

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that knows a cluster of one node, alone on PATH."""
    path = tmp_path / "kubectl"
    path.write_text('#!/bin/sh\necho \'{"items": [{"metadata": {"name": "one"}, "status": {}}]}\'\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return path


def test_a_missing_file_is_named(tmp_path: Path, kubectl: Path) -> None:
    with pytest.raises(ControlPlaneError, match=r"--kubeconfig .*/nothing: no such file"):
        KubeconfigControlPlane(tmp_path / "nothing").up()


def test_the_users_cluster_and_kubectl_are_used_and_left_alone(tmp_path: Path, kubectl: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.touch()
    with KubeconfigControlPlane(path) as control_plane:
        assert control_plane.kubectl == kubectl
        assert control_plane.status().nodes == (Node(name="one", is_ready=False),)
    assert path.exists()


def test_a_cluster_that_does_not_answer_is_an_error(tmp_path: Path, kubectl: Path) -> None:
    kubectl.write_text("#!/bin/sh\necho refused >&2\nexit 1\n")
    (tmp_path / "kubeconfig").touch()
    control_plane = KubeconfigControlPlane(tmp_path / "kubeconfig")
    with pytest.raises(ControlPlaneError, match="refused"):
        control_plane.up()
    assert not control_plane.status().is_up
