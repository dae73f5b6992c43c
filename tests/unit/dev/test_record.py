from __future__ import annotations

import os
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from baton.dev.processes import Process
from baton.dev.record import Record, delete_record, find_directory, read_record, write_record

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = IPv4Network("127.70.0.0/16")
GONE = Process(pid=os.getpid(), start=1)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record(network=NETWORK, processes={}).add("etcd", GONE).add("kwok", Process(pid=8, start=9)).complete()
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert list(record.processes) == ["etcd", "kwok"]


def test_there_is_no_record_before_and_after(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path, Record(network=NETWORK, processes={}))
    delete_record(tmp_path)
    delete_record(tmp_path)
    assert read_record(tmp_path) is None


def test_an_unfinished_start_is_not_up() -> None:
    assert not Record(network=NETWORK, processes={}).is_up
    assert Record(network=NETWORK, processes={}).complete().is_up


def test_a_control_plane_with_a_dead_program_is_not_up() -> None:
    assert not Record(network=NETWORK, processes={}).add("etcd", GONE).complete().is_up


def test_state_follows_the_users_settings(tmp_path: Path) -> None:
    found = find_directory("demo", environment={"XDG_STATE_HOME": str(tmp_path)})
    assert found == tmp_path / "baton" / "dev" / "demo"
    assert find_directory("demo", environment={}).parts[-5:] == (".local", "state", "baton", "dev", "demo")
