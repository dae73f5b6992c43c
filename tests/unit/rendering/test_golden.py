"""The rendered files of the examples; `GOLDEN=update pytest tests/unit/rendering/test_golden.py` rewrites them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from baton.cli.render import render
from rendering_builders import EXAMPLES, ROOT

if TYPE_CHECKING:
    from pathlib import Path


def _files(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_renders_to_its_golden_files(name: str, tmp_path: Path) -> None:
    golden = ROOT / "tests" / "golden" / name
    manifest = ROOT / "examples" / name / "modelserving.yaml"

    result = CliRunner().invoke(render, [str(manifest), "--format", "dir", "--output", str(tmp_path)])

    assert result.exit_code == 0, result.output
    if os.environ.get("GOLDEN") == "update":
        shutil.rmtree(golden, ignore_errors=True)
        shutil.copytree(tmp_path, golden)
    assert _files(tmp_path) == _files(golden), "run GOLDEN=update pytest on this file, and review the difference"
