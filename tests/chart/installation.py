"""Installs the chart with helm and looks at a cluster with kubectl. Judges nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from chart.rendering import CHART, NAMESPACE, RELEASE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from baton.dev.kubectl import Kubectl
    from helm import Helm


@dataclass(frozen=True)
class Installation:
    """The release `baton` in `baton-system`, whether or not it is installed."""

    helm: Helm
    kubectl: Kubectl
    scratch: Path
    patience: int = 60

    def install(self, *arguments: str, chart: Path = CHART) -> str:
        """Install or upgrade, and wait until the pods are ready."""
        return self._run("upgrade", "--install", RELEASE, str(chart), *arguments)

    def uninstall(self) -> None:
        self._run("uninstall", RELEASE)

    def create(self, documents: Iterable[dict[str, Any]], *arguments: str) -> str:
        text = yaml.safe_dump_all(documents)
        return self.kubectl.run("create", "--filename=-", *arguments, standard_input=text)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl.run("get", *arguments, "--output=json"))

    def merge(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        namespace = f"--namespace={NAMESPACE}"
        self.kubectl.run("patch", kind, name, namespace, "--type=merge", f"--patch={json.dumps(patch)}")

    def _run(self, *arguments: str) -> str:
        wait = ("--namespace", NAMESPACE, "--wait", "--timeout", f"{self.patience}s")
        return self.helm.run(*arguments, *wait, deadline=self.patience + 30)
