"""A cluster that somebody else runs, named by a kubeconfig file. It is used as it is: nothing is started or stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

from typing_extensions import override

from baton.dev.binaries import ensure_binaries
from baton.dev.kubectl import Kubectl
from baton.dev.pins import find_module, read_pins
from baton.dev.progress import Report, keep_silent
from baton.dev.provider import ControlPlane, ControlPlaneError, Status

# Seconds for the API server to answer.
_DEADLINE = 15.0


class KubeconfigControlPlane(ControlPlane):
    """The cluster of a kubeconfig's current context, with the kubectl on PATH, or ours where there is none."""

    simulates_pods = False

    def __init__(self, kubeconfig: Path, *, report: Report = keep_silent) -> None:
        self.kubeconfig = kubeconfig.expanduser().absolute()
        found = shutil.which("kubectl")
        self.kubectl = Path(found) if found else Path("kubectl")
        self._report = report

    @override
    def up(self) -> None:
        if not self.kubeconfig.is_file():
            raise ControlPlaneError(f"--kubeconfig {self.kubeconfig}: no such file")
        if not self.kubectl.is_absolute():
            self.kubectl = ensure_binaries(read_pins(find_module()), names=["kubectl"], report=self._report) / "kubectl"
        Kubectl(self.kubectl, self.kubeconfig).run("get", "--raw=/readyz", deadline=_DEADLINE)
        self._report(f"the cluster of {self.kubeconfig} answers")

    @override
    def down(self) -> None:
        self._report(f"the cluster of {self.kubeconfig} is left as it is")

    @override
    def status(self) -> Status:
        try:
            nodes = Kubectl(self.kubectl, self.kubeconfig).get_nodes(deadline=_DEADLINE)
        except ControlPlaneError:
            return Status(is_up=False)
        return Status(is_up=True, nodes=nodes)
