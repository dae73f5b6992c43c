from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from click.testing import CliRunner

from baton.api.crd import DEFINITIONS, manifest_of
from baton.cli.crds import crds

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED = [manifest_of(definition) for definition in DEFINITIONS]


def test_without_a_directory_all_definitions_are_printed_as_one_stream() -> None:
    printed = CliRunner().invoke(crds)

    assert printed.exit_code == 0
    assert list(yaml.safe_load_all(printed.output)) == EXPECTED


def test_with_a_directory_each_definition_gets_a_file_that_says_where_it_comes_from(tmp_path: Path) -> None:
    written = CliRunner().invoke(crds, ["--output", str(tmp_path / "new" / "crds")])

    files = sorted((tmp_path / "new" / "crds").iterdir())
    assert (written.exit_code, written.output) == (0, "")
    assert [path.name for path in files] == ["modelroutes.yaml", "modelservers.yaml", "modelservings.yaml"]
    assert all(path.read_text().startswith("# Generated from operator/baton/api") for path in files)
    assert [yaml.safe_load(path.read_text())["metadata"]["name"] for path in files] == sorted(
        manifest["metadata"]["name"] for manifest in EXPECTED
    )


def test_several_directories_get_the_same_files(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    CliRunner().invoke(crds, ["--output", str(first), "--output", str(second)])

    assert {path.name: path.read_text() for path in first.iterdir()} == {
        path.name: path.read_text() for path in second.iterdir()
    }
    assert list(second.iterdir())


def test_the_definitions_have_no_anchors_which_not_every_reader_understands() -> None:
    assert "&id" not in CliRunner().invoke(crds).output
