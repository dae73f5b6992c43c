from __future__ import annotations

from typing import TYPE_CHECKING

from click.testing import CliRunner

from baton.cli.status import status

if TYPE_CHECKING:
    from pathlib import Path


def test_a_kubeconfig_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(status, ["--kubeconfig", str(tmp_path / "nothing")])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert result.output.startswith(f"Error: kubeconfig {tmp_path}/nothing: ")
