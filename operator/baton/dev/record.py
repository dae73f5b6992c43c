"""What a local control plane remembers on disk, so that another process can find and stop it.

It reads and writes one small file. Nothing in it is secret.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Self

from baton.dev.processes import Process, is_running

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = "record.json"


@dataclass(frozen=True, slots=True)
class Record:
    """The processes of one control plane in start order, its address range, and whether it came up."""

    network: IPv4Network
    processes: dict[str, Process]
    is_complete: bool = False

    def add(self, name: str, process: Process) -> Self:
        """Return the record with one more process."""
        return replace(self, processes={**self.processes, name: process})

    def complete(self) -> Self:
        """Return the record of a control plane that came up."""
        return replace(self, is_complete=True)

    @property
    def is_up(self) -> bool:
        """It came up and every process still runs."""
        return self.is_complete and all(map(is_running, self.processes.values()))


def find_directory(name: str, *, environment: Mapping[str, str] | None = None) -> Path:
    """Return where a control plane of this name keeps its state, under $XDG_STATE_HOME or ~/.local/state."""
    environment = os.environ if environment is None else environment
    home = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "baton" / "dev" / name


def read_record(directory: Path) -> Record | None:
    """Read the record, or None where there is no control plane."""
    try:
        document = json.loads((directory / _FILE).read_text())
    except FileNotFoundError:
        return None
    processes = {entry["name"]: Process(pid=entry["pid"], start=entry["start"]) for entry in document["processes"]}
    return Record(network=IPv4Network(document["network"]), processes=processes, is_complete=document["isComplete"])


def write_record(directory: Path, record: Record) -> None:
    """Write the record in one step: a reader sees the old one or the new one."""
    document = {
        "network": str(record.network),
        "isComplete": record.is_complete,
        "processes": [
            {"name": name, "pid": process.pid, "start": process.start} for name, process in record.processes.items()
        ],
    }
    draft = directory / f".{_FILE}.draft"
    draft.write_text(json.dumps(document, indent=2) + "\n")
    draft.replace(directory / _FILE)


def delete_record(directory: Path) -> None:
    """Forget the control plane."""
    (directory / _FILE).unlink(missing_ok=True)
