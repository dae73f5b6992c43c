from __future__ import annotations

import stat
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest

from baton.dev.addresses import AddressRange
from baton.dev.components import ORDER, Layout
from baton.dev.launch import Launch
from baton.dev.processes import is_running, stop_process
from baton.dev.progress import keep_silent
from baton.dev.provider import ControlPlaneError
from baton.dev.record import read_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """Stand-ins for all programs, which do nothing; in the end those that were started are stopped."""
    for name in (*ORDER, "kubectl"):
        (tmp_path / name).write_text("#!/bin/sh\nexec sleep 60\n")
        (tmp_path / name).chmod(0o755)
    layout = Layout(
        directory=tmp_path / "state",
        binaries=tmp_path,
        stages=tmp_path / "stages.yaml",
        addresses=AddressRange(IPv4Network("127.30.0.0/16")),
        port=1,
    )
    yield layout
    record = read_record(layout.directory)
    for process in record.processes.values() if record else ():
        stop_process(process)


def test_what_is_started_is_recorded_before_anything_is_waited_for(layout: Layout, tmp_path: Path) -> None:
    def give_up(line: str, *, passing: bool = False) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Launch(layout, name="demo", report=give_up).run(nodes=1, crds=tmp_path, kubernetes_version="v1")
    record = read_record(layout.directory)
    assert record is not None
    assert list(record.processes) == ["etcd", "kube-apiserver"]
    assert all(map(is_running, record.processes.values()))
    assert not record.is_up


def test_nobody_else_may_read_the_state(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "etcd").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ControlPlaneError, match="etcd ended by itself"):
        Launch(layout, name="demo", report=keep_silent).run(nodes=1, crds=tmp_path, kubernetes_version="v1")
    assert stat.S_IMODE(layout.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(layout.tokens.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.signing_key.stat().st_mode) == 0o600
