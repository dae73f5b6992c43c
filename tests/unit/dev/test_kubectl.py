from __future__ import annotations

import json
from pathlib import Path

import pytest

from baton.dev.kubectl import Kubectl
from baton.dev.provider import ControlPlaneError, Node


def make_kubectl(directory: Path, script: str) -> Kubectl:
    binary = directory / "kubectl"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    return Kubectl(binary, directory / "kubeconfig")


def test_it_passes_the_kubeconfig_and_the_input_and_returns_the_output(tmp_path: Path) -> None:
    kubectl = make_kubectl(tmp_path, 'echo "$@"; cat')
    assert kubectl.run("create", "-f", "-", standard_input="{}") == (
        f"--kubeconfig={tmp_path}/kubeconfig create -f -\n{{}}"
    )


def test_it_keeps_its_cache_where_it_is_told(tmp_path: Path) -> None:
    binary = make_kubectl(tmp_path, 'echo "$@"').binary
    assert "--cache-dir=/cache" in Kubectl(binary, tmp_path, Path("/cache")).run("version")


def test_its_complaint_becomes_the_error(tmp_path: Path) -> None:
    kubectl = make_kubectl(tmp_path, "echo nonsense >&2; exit 1")
    with pytest.raises(ControlPlaneError, match=r"^kubectl get pods: nonsense$"):
        kubectl.run("get", "pods")


def test_it_has_limited_time(tmp_path: Path) -> None:
    kubectl = make_kubectl(tmp_path, "exec sleep 60")
    with pytest.raises(ControlPlaneError, match="no answer"):
        kubectl.run("get", "pods", deadline=0.1)


def test_a_missing_kubectl_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneError, match="does not start"):
        Kubectl(tmp_path / "kubectl", tmp_path).run("version")


def test_a_node_is_ready_when_its_condition_says_so(tmp_path: Path) -> None:
    ready = {"type": "Ready", "status": "True"}
    items = [
        {"metadata": {"name": "new"}, "status": {}},
        {"metadata": {"name": "bad"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
        {"metadata": {"name": "good"}, "status": {"conditions": [{"type": "DiskPressure", "status": "False"}, ready]}},
    ]
    kubectl = make_kubectl(tmp_path, f"echo '{json.dumps({'items': items})}'")
    assert kubectl.get_nodes() == (
        Node(name="new", is_ready=False),
        Node(name="bad", is_ready=False),
        Node(name="good", is_ready=True),
    )
