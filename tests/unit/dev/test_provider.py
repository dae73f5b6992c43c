from __future__ import annotations

from pathlib import Path

import pytest
from typing_extensions import override

from baton.dev.provider import ControlPlane, ControlPlaneError, Status, check_name


class Recorder(ControlPlane):
    kubeconfig = Path("kubeconfig")
    kubectl = Path("kubectl")
    simulates_pods = False

    def __init__(self) -> None:
        self.calls: list[str] = []

    @override
    def up(self) -> None:
        self.calls.append("up")

    @override
    def down(self) -> None:
        self.calls.append("down")

    @override
    def status(self) -> Status:
        return Status(is_up=True)


def enter_and_raise(control_plane: ControlPlane, error: BaseException) -> None:
    with control_plane:
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError()], ids=["interrupt", "error"])
def test_leaving_the_context_stops_it_whatever_happens(error: BaseException) -> None:
    control_plane = Recorder()
    with pytest.raises(type(error)):
        enter_and_raise(control_plane, error)
    assert control_plane.calls == ["up", "down"]


def test_real_pods_have_no_known_range() -> None:
    assert Recorder().pod_address_range is None


@pytest.mark.parametrize("name", ["demo", "a", "a-1", "a" * 40])
def test_a_dns_label_is_a_good_name(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "Demo", "-a", "a-", "../x", "a b", "a" * 41])
def test_a_name_that_is_no_dns_label_is_refused(name: str) -> None:
    with pytest.raises(ControlPlaneError, match="lower-case"):
        check_name(name)
