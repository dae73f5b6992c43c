"""One start of the local control plane: write its files, start its programs, wait until a pod runs.

Whether to start, how often to try, and how to stop is local.py's business.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
from typing import TYPE_CHECKING

from baton.dev.components import commands, make_scheduler_configuration
from baton.dev.credentials import make_kubeconfig, make_signing_key, make_token, make_token_file, write_secret
from baton.dev.kubectl import Kubectl
from baton.dev.nodes import PROBE, make_nodes, make_probe
from baton.dev.processes import is_running, start_process, uninterrupted
from baton.dev.progress import Stopwatch
from baton.dev.provider import ControlPlaneError
from baton.dev.record import Record, write_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from baton.dev.components import Layout
    from baton.dev.progress import Report

# Seconds for each step; a quiet machine needs two or three.
_DEADLINE = 90.0
_LOG_LINES = 15


class AddressTakenError(ControlPlaneError):
    """Somebody took an address between our choice and our use of it: choose another and start again."""


class Launch:
    """Starts the programs of one layout and records each of them at once, so that a broken start can be undone."""

    def __init__(self, layout: Layout, *, name: str, report: Report) -> None:
        self._layout = layout
        self._name = name
        self._report = report
        self._commands = commands(layout)
        self._token = make_token()
        self._record = Record(network=layout.addresses.network, processes={})
        self._kubectl = Kubectl(layout.binaries / "kubectl", layout.kubeconfig, layout.directory / "cache")

    def run(self, *, nodes: int, crds: Path, kubernetes_version: str) -> None:
        """Come up completely, with this many simulated nodes and the CRDs in a directory, or raise.

        CRDs come before the controller manager: its garbage collector looks for new kinds only every 30 seconds, and
        until then leaves the children of a deleted object alone.
        """
        self._write_files()
        self._start("etcd", "kube-apiserver")
        self._wait("the API server answers", self._is_api_ready, culprit="kube-apiserver")
        self._write_kubeconfig()
        if any(crds.glob("*.yaml")):
            self._kubectl.run("apply", "--server-side", f"--filename={crds}")
            self._wait("the CRDs are established", self._are_crds_established, culprit="kube-apiserver")
        self._start("kube-controller-manager", "kube-scheduler", "kwok")
        documents = make_nodes(nodes, addresses=self._layout.addresses, version=kubernetes_version)
        self._kubectl.run("create", "--filename=-", standard_input=documents, deadline=_DEADLINE)
        self._wait(f"{nodes} nodes are Ready", self._are_nodes_ready, culprit="kwok")
        if nodes:
            self._try_pod()
        write_record(self._layout.directory, self._record.complete())

    def _write_files(self) -> None:
        directory = self._layout.directory
        (directory / "logs").mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        write_secret(self._layout.signing_key, make_signing_key())
        write_secret(self._layout.tokens, make_token_file(self._token))
        write_secret(self._layout.scheduler_configuration, make_scheduler_configuration(self._layout))
        write_record(directory, self._record)

    def _write_kubeconfig(self) -> None:
        text = make_kubeconfig(
            name=self._name,
            server=self._layout.server,
            certificate=self._layout.certificate.read_text(),
            token=self._token,
        )
        write_secret(self._layout.kubeconfig, text)

    def _start(self, *names: str) -> None:
        # A home of their own keeps them from reading and writing the user's settings.
        environment = {"HOME": str(self._layout.directory), "PATH": os.defpath}
        for name in names:
            with uninterrupted():
                process = start_process(self._commands[name], log=self._log(name), environment=environment)
                self._record = self._record.add(name, process)
                write_record(self._layout.directory, self._record)

    def _try_pod(self) -> None:
        """Run one pod. It also makes KWOK set up its addresses, which two first pods at once could do twice."""
        self._wait("service accounts exist", self._have_accounts, culprit="kube-controller-manager")
        self._kubectl.run("create", "--filename=-", standard_input=make_probe())
        self._wait("a pod runs", self._is_probe_running, culprit="kube-scheduler")
        self._kubectl.run("delete", "pod", PROBE, "--namespace=kube-system")

    def _wait(self, what: str, is_true: Callable[[], bool], *, culprit: str) -> None:
        watch = Stopwatch()
        while not is_true():
            for name, process in self._record.processes.items():
                if not is_running(process):
                    raise self._failure(f"{name} ended by itself", name)
            if watch.seconds > _DEADLINE:
                raise self._failure(f"waited {watch} in vain until {what}", culprit)
            self._report(f"waiting until {what}: {watch}", passing=True)
            time.sleep(0.05)
        self._report(f"{what} ({watch})")

    def _is_api_ready(self) -> bool:
        try:
            trust = ssl.create_default_context(cafile=self._layout.certificate)
            connection = http.client.HTTPSConnection("127.0.0.1", self._layout.port, timeout=5, context=trust)
            try:
                connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {self._token}"})
                return connection.getresponse().status == http.client.OK
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):  # no certificate yet, or nobody listens
            return False

    def _are_crds_established(self) -> bool:
        # Neither `kubectl wait` nor jsonpath: both give up on a CRD that has no conditions yet.
        crds = json.loads(self._kubectl.run("get", "crd", "--output=json"))["items"]
        return all(
            any(
                condition["type"] == "Established" and condition["status"] == "True"
                for condition in crd.get("status", {}).get("conditions") or ()
            )
            for crd in crds
        )

    def _are_nodes_ready(self) -> bool:
        return all(node.is_ready for node in self._kubectl.get_nodes())

    def _have_accounts(self) -> bool:
        found = self._kubectl.run("get", "serviceaccount", "--all-namespaces", "--output=name")
        return found.count("serviceaccount/default") >= 2

    def _is_probe_running(self) -> bool:
        phase = self._kubectl.run("get", "pod", PROBE, "--namespace=kube-system", "--output=jsonpath={.status.phase}")
        return phase == "Running"

    def _failure(self, message: str, culprit: str) -> ControlPlaneError:
        path = self._log(culprit)
        text = path.read_text(errors="replace") if path.exists() else ""
        tail = "\n".join(text.splitlines()[-_LOG_LINES:])
        kind = AddressTakenError if "address already in use" in text else ControlPlaneError
        return kind(f"{message}. The end of {path}:\n{tail}")

    def _log(self, name: str) -> Path:
        return self._layout.directory / "logs" / f"{name}.log"
