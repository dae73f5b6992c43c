"""The local control plane: real Kubernetes programs as plain processes, with nodes and pods that KWOK simulates.

It needs Linux, and Go for its first start; neither root nor containers. How it starts is in launch.py.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from typing_extensions import override

from baton.dev.addresses import choose_port, choose_range
from baton.dev.assets import find_asset
from baton.dev.binaries import ensure_binaries, find_cache
from baton.dev.components import Layout
from baton.dev.kubectl import Kubectl
from baton.dev.launch import AddressTakenError, Launch
from baton.dev.locks import hold_lock
from baton.dev.pins import find_module, read_pins
from baton.dev.processes import is_running, stop_process
from baton.dev.progress import Report, Stopwatch, keep_silent
from baton.dev.provider import DEFAULT_NAME, Component, ControlPlane, ControlPlaneError, Status, check_name
from baton.dev.record import delete_record, find_directory, read_record

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from ipaddress import IPv4Network
    from pathlib import Path

DEFAULT_NODES = 8
# The upper half of a /16 minus what has an address already.
MAXIMUM_NODES = 5000
_ATTEMPTS = 5
# What stays when a control plane goes: its lock and the logs of its last run.
_KEPT = (".lock", "logs")


class LocalControlPlane(ControlPlane):
    """A control plane of this machine and user, known by its name; several run side by side.

    `crds` is a directory of CRDs that exist from the beginning, by default Baton's own. State is under
    $XDG_STATE_HOME, binaries under $XDG_CACHE_HOME.
    """

    simulates_pods = True

    def __init__(
        self,
        *,
        name: str = DEFAULT_NAME,
        nodes: int = DEFAULT_NODES,
        crds: Path | None = None,
        report: Report = keep_silent,
    ) -> None:
        check_name(name)
        if not 0 <= nodes <= MAXIMUM_NODES:
            raise ControlPlaneError(f"{nodes} nodes: choose between 0 and {MAXIMUM_NODES}")
        self.name = name
        self.directory = find_directory(name)
        self.kubeconfig = self.directory / "kubeconfig"
        self._pins = read_pins(find_module())
        self.kubectl = find_cache(self._pins) / "kubectl"
        self._nodes = nodes
        self._crds = crds or find_asset("_crds", checkout="crds")
        self._report = report

    @property
    @override
    def pod_address_range(self) -> IPv4Network | None:
        record = read_record(self.directory)
        return record.network if record else None

    @override
    def up(self) -> None:
        if sys.platform != "linux":
            raise ControlPlaneError(
                "The local control plane runs on Linux only. Use --provider kind, or --kubeconfig FILE."
            )
        watch = Stopwatch()
        with self._lock():
            record = read_record(self.directory)
            if record and record.is_up:
                self._report(f"control plane {self.name} is up already")
                return
            binaries = ensure_binaries(self._pins, report=self._report)
            self._start(binaries)
        self._report(f"control plane {self.name} is up ({watch})")

    @override
    def down(self) -> None:
        if not self.directory.exists():
            return
        with self._lock():
            self._stop()

    @override
    def status(self) -> Status:
        record = read_record(self.directory)
        if record is None:
            return Status(is_up=False)
        components = tuple(
            Component(name=name, pid=process.pid, is_running=is_running(process))
            for name, process in record.processes.items()
        )
        try:
            nodes = Kubectl(self.kubectl, self.kubeconfig).get_nodes(deadline=5)
        except ControlPlaneError:
            nodes = ()
        return Status(is_up=record.is_up, components=components, nodes=nodes)

    def _start(self, binaries: Path) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start_once(binaries)
            except AddressTakenError as error:
                if attempt == _ATTEMPTS:
                    raise
                self._report(f"an address was taken meanwhile, choosing others ({error.args[0].splitlines()[0]})")
            else:
                return

    def _start_once(self, binaries: Path) -> None:
        self._stop()
        shutil.rmtree(self.directory / "logs", ignore_errors=True)
        layout = Layout(
            directory=self.directory,
            binaries=binaries,
            stages=self._pins.stages,
            addresses=choose_range(),
            port=choose_port(),
        )
        launch = Launch(layout, name=self.name, report=self._report)
        try:
            launch.run(nodes=self._nodes, crds=self._crds, kubernetes_version=self._pins.kubernetes_version)
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        """Stop what the record names, last started first, and remove everything but the logs."""
        record = read_record(self.directory)
        if record is not None:
            watch = Stopwatch()
            for name, process in reversed(record.processes.items()):
                self._report(f"stopping {name}", passing=True)
                stop_process(process)
            self._report(f"control plane {self.name} is down ({watch})")
        delete_record(self.directory)
        for path in self.directory.iterdir():
            if path.name in _KEPT:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()

    def _lock(self) -> AbstractContextManager[None]:
        return hold_lock(
            self.directory / ".lock", waiting_for=f"another command on control plane {self.name}", report=self._report
        )
