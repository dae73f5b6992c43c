from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from baton.dev.pins import PACKAGES, build_flags, find_module, read_pins
from baton.dev.provider import ControlPlaneError

if TYPE_CHECKING:
    from pathlib import Path

MODULE = "module x\n\ngo 1.26.0\n\nrequire (\n\tk8s.io/kubernetes v1.34.4 // indirect\n)\n"


def write_module(directory: Path, *, module: str = MODULE, sums: str = "sum") -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "go.mod").write_text(module)
    (directory / "go.sum").write_text(sums)
    return directory


def test_the_versions_come_from_go_mod(tmp_path: Path) -> None:
    pins = read_pins(write_module(tmp_path))
    assert (pins.go_version, pins.kubernetes_version) == ("1.26.0", "v1.34.4")


def test_the_same_module_has_the_same_key_wherever_it_is(tmp_path: Path) -> None:
    assert read_pins(write_module(tmp_path / "a")).key == read_pins(write_module(tmp_path / "b")).key


@pytest.mark.parametrize("change", [{"module": MODULE.replace("34.4", "34.5")}, {"sums": "other"}], ids=str)
def test_another_pin_has_another_key(tmp_path: Path, change: dict[str, str]) -> None:
    before = read_pins(write_module(tmp_path / "a")).key
    assert read_pins(write_module(tmp_path / "b", **change)).key != before


def test_the_flags_tell_the_servers_their_version() -> None:
    flags = " ".join(build_flags("v1.34.4"))
    assert "k8s.io/component-base/version.gitVersion=v1.34.4" in flags
    assert "gitMajor=1 " in flags
    assert "gitMinor=34 " in flags


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneError, match=r"go\.mod is missing"):
        read_pins(tmp_path)


def test_a_module_without_kubernetes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneError, match="kubernetes"):
        read_pins(write_module(tmp_path, module="module x\n\ngo 1.26.0\n"))


def test_the_real_module_pins_every_package_as_a_tool() -> None:
    module = (find_module() / "go.mod").read_text()
    tools = re.search(r"^tool \((.*?)^\)", module, re.MULTILINE | re.DOTALL)
    assert tools is not None
    assert sorted(tools[1].split()) == sorted(PACKAGES.values())


def test_the_stages_lie_beside_the_real_module() -> None:
    assert read_pins(find_module()).stages.is_file()
