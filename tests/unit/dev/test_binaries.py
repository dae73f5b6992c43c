from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from baton.dev.binaries import check_go, ensure_binaries, find_cache
from baton.dev.pins import Pins, read_pins
from baton.dev.provider import ControlPlaneError

if TYPE_CHECKING:
    from pathlib import Path

# Stands in for the real Go: answers `go env GOVERSION`, and "builds" by writing the package's name to the -o file.
GO = """#!/bin/sh
if [ "$1" = env ]; then echo "${FAKE_GO_VERSION-go1.26.8}"; exit; fi
for last; do :; done
while [ "$1" != -o ]; do shift; done
echo "go: downloading example.com/x v1.0.0" >&2
if [ "$last" = "$FAKE_GO_BROKEN" ]; then echo half > "$2"; echo "x.go:1: syntax error" >&2; exit 1; fi
echo "$last" > "$2"
"""


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pins:
    module = tmp_path / "module"
    module.mkdir()
    (module / "go.mod").write_text("module x\n\ngo 1.26.0\n\nrequire (\n\tk8s.io/kubernetes v1.34.4\n)\n")
    (module / "go.sum").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return read_pins(module)


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "go").write_text(GO)
    (programs / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.defpath}")


def test_without_go_the_error_names_the_ways_out(pins: Pins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ControlPlaneError, match=r"not on PATH.*Go 1\.26.*--provider kind.*--kubeconfig"):
        ensure_binaries(pins)


@pytest.mark.parametrize("version", ["go1.25.9", "go1.9"])
def test_an_old_go_is_refused_with_its_version(
    pins: Pins, go: None, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("FAKE_GO_VERSION", version)
    with pytest.raises(ControlPlaneError, match=rf"Go {version[2:]} is too old.*Go 1\.26 or later"):
        check_go(pins)


@pytest.mark.parametrize("version", ["go1.26.0", "go1.27rc1", "go2.0"])
def test_a_new_go_is_good(pins: Pins, go: None, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv("FAKE_GO_VERSION", version)
    check_go(pins)


def test_a_go_that_does_not_answer_is_refused(pins: Pins, go: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GO_VERSION", "")
    with pytest.raises(ControlPlaneError, match="can't build"):
        check_go(pins)


def test_every_binary_is_built_from_its_package(pins: Pins, go: None) -> None:
    cache = ensure_binaries(pins)
    assert cache == find_cache(pins)
    assert (cache / "etcd").read_text() == "go.etcd.io/etcd/server/v3\n"
    assert (cache / "kubectl").read_text() == "k8s.io/kubernetes/cmd/kubectl\n"


def test_only_what_is_asked_for_is_built(pins: Pins, go: None) -> None:
    cache = ensure_binaries(pins, names=["kubectl"])
    assert [path.name for path in cache.iterdir() if not path.name.startswith(".")] == ["kubectl"]


def test_what_is_built_needs_no_go_any_more(pins: Pins, go: None, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ensure_binaries(pins)
    monkeypatch.setenv("PATH", "")
    assert ensure_binaries(pins) == cache


def test_progress_names_every_finished_binary(pins: Pins, go: None) -> None:
    lines: list[str] = []

    def report(line: str, *, passing: bool = False) -> None:
        if not passing:
            lines.append(line)

    ensure_binaries(pins, names=["etcd", "kwok"], report=report)
    assert [line.split(":")[0] for line in lines[1:3]] == ["etcd (1 of 2)", "kwok (2 of 2)"]


def test_a_failed_build_says_why_and_leaves_no_half_binary(
    pins: Pins, go: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_GO_BROKEN", "go.etcd.io/etcd/server/v3")
    with pytest.raises(ControlPlaneError, match=r"etcd failed:\nx\.go:1: syntax error$"):
        ensure_binaries(pins, names=["kubectl", "etcd"])
    assert [path.name for path in find_cache(pins).iterdir() if path.name != ".lock"] == ["kubectl"]


def test_an_interrupted_build_leaves_no_half_binary_and_no_compiler(
    pins: Pins, go: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "programs" / "go"
    program.write_text(GO.replace('echo "$last"', f'echo $$ > {tmp_path}/pid; sleep 60; echo "$last"'))

    def report(line: str, *, passing: bool = False) -> None:
        if passing and (tmp_path / "pid").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_binaries(pins, names=["etcd"], report=report)
    assert [path.name for path in find_cache(pins).iterdir()] == [".lock"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_cache_follows_the_users_settings(pins: Pins, tmp_path: Path) -> None:
    cache = find_cache(pins, environment={"XDG_CACHE_HOME": str(tmp_path)})
    assert cache == tmp_path / "baton" / "control-plane" / pins.key
    assert find_cache(pins, environment={}).parts[-4:-1] == (".cache", "baton", "control-plane")
