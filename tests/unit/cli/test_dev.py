from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from baton.cli.dev import describe, dev, select_control_plane
from baton.dev.kind import KindControlPlane
from baton.dev.kubeconfig import KubeconfigControlPlane
from baton.dev.local import LocalControlPlane
from baton.dev.provider import Component, ControlPlane, ControlPlaneError, Node, Provider, Status

if TYPE_CHECKING:
    from click.testing import Result


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(dev, arguments)


@pytest.mark.parametrize(
    ("provider", "kubeconfig", "expected"),
    [
        (None, None, LocalControlPlane),
        (None, Path("x"), KubeconfigControlPlane),
        (Provider.KUBECONFIG, Path("x"), KubeconfigControlPlane),
        (Provider.LOCAL, None, LocalControlPlane),
        (Provider.KIND, None, KindControlPlane),
    ],
)
def test_the_options_choose_the_provider(
    provider: Provider | None, kubeconfig: Path | None, expected: type[ControlPlane]
) -> None:
    assert type(select_control_plane(provider, kubeconfig=kubeconfig, name="demo")) is expected


@pytest.mark.parametrize(("provider", "kubeconfig"), [(Provider.KUBECONFIG, None), (Provider.LOCAL, Path("x"))])
def test_options_that_contradict_each_other_are_refused(provider: Provider, kubeconfig: Path | None) -> None:
    with pytest.raises(ControlPlaneError, match="--provider kubeconfig"):
        select_control_plane(provider, kubeconfig=kubeconfig, name="demo")


def test_providers_are_named_in_lower_case() -> None:
    assert "[local|kind|kubeconfig]" in run("up", "--help").output


def test_an_error_is_one_readable_message(tmp_path: Path) -> None:
    result = run("up", "--kubeconfig", str(tmp_path / "nothing"))
    assert result.exit_code == 1
    assert result.output == f"Error: --kubeconfig {tmp_path}/nothing: no such file\n"


def test_a_bad_name_is_refused() -> None:
    result = run("down", "--name", "../x")
    assert result.exit_code == 1
    assert "lower-case" in result.output


def test_the_status_of_nothing_is_down_with_exit_code_one() -> None:
    result = run("status", "--name", "demo")
    assert (result.exit_code, result.output) == (1, "control plane demo is down\n")


def test_stopping_nothing_is_fine() -> None:
    assert run("down", "--name", "demo").exit_code == 0


def test_a_lost_program_stands_out() -> None:
    status = Status(
        is_up=False,
        components=(Component("etcd", 7, is_running=True), Component("kwok", 8, is_running=False)),
        nodes=(Node("a", is_ready=True), Node("b", is_ready=False)),
    )
    text = describe("demo", LocalControlPlane(name="demo"), status)
    assert "broken" in text
    assert "GONE, pid 8" in text
    assert "1 of 2 Ready" in text
