from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner

from baton.cli.plan import _described, plan
from baton.planning.model import ChildKind, Delete, Update
from builders import serving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: [", "is no YAML"),
        ("just a word", "should be an object"),
        ("kind: ModelServing", "apiVersion: is required"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}", "there is no ModelServing in"),
        (
            yaml.safe_dump({**serving().role("decode").document(), "spec": {"replica": 1}}),
            "spec.replica: is no field of this object; did you mean replicas?",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_said_so_before_any_cluster_is_asked(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(text)
    result = CliRunner().invoke(plan, [str(file), "--kubeconfig", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert message in result.output
    assert str(file) in result.output


def test_a_file_that_is_no_text_is_said_so(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_bytes(b"\xff\xfe")
    result = CliRunner().invoke(plan, [str(file)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: cannot read {file}: ")


def test_a_file_that_is_not_there_is_a_usage_error() -> None:
    result = CliRunner().invoke(plan, ["nothing.yaml"])
    assert result.exit_code == 2
    assert "'nothing.yaml' does not exist" in result.output


def test_a_kubeconfig_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(yaml.safe_dump(serving().role("decode").document()))
    result = CliRunner().invoke(plan, [str(file), "--kubeconfig", str(tmp_path / "nothing")])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert result.output.startswith(f"Error: kubeconfig {tmp_path}/nothing: ")


def test_changes_and_deletions_say_why() -> None:
    change = Update(ChildKind.POD_GROUP, "demo-0", "uid", {}, "what it asks for has changed")
    assert _described(change) == "change PodGroup demo-0: what it asks for has changed"
    assert _described(Delete(ChildKind.POD, "demo-0-decode-0-0", "uid", "r")) == "delete Pod demo-0-decode-0-0: r"
