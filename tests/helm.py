"""Finds helm, builds it where there is none, and runs it. Knows nothing of the chart."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from baton.dev.locks import hold_lock
from baton.dev.progress import Report, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODULE = Path(__file__).parents[1] / "tools" / "helm"
_PACKAGE = "helm.sh/helm/v3"
_DEADLINE = 90.0


class HelmError(Exception):
    """What helm complained about, or why there is none."""


@dataclass(frozen=True)
class Helm:
    """A helm binary that keeps its own settings under `home`. Without a kubeconfig it only renders."""

    binary: Path
    home: Path
    kubeconfig: Path | None = None

    def run(self, *arguments: str, deadline: float = _DEADLINE) -> str:
        """Return what helm prints. Raises HelmError with its complaint."""
        command = [str(self.binary), *arguments]
        done = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, timeout=deadline, check=False
        )
        if done.returncode != 0:
            raise HelmError(f"helm {' '.join(arguments)}: {done.stderr.strip()}\n{done.stdout.strip()}")
        return done.stdout

    def _environment(self) -> Mapping[str, str]:
        homes = {f"HELM_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        # A kubeconfig of the user's must not be reached by accident.
        return {**os.environ, **homes, "KUBECONFIG": str(self.kubeconfig or os.devnull)}


def ensure_helm(*, report: Report) -> Path:
    """Return the helm on PATH, or else one built once from the pins in tools/helm, under $XDG_CACHE_HOME or ~/.cache.

    Raises:
        HelmError: there is none, and Go cannot build it; the message says why.

    """
    found = shutil.which("helm")
    if found is not None:
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "baton" / "helm" / _key()
    binary = cache / "helm"
    if binary.exists():
        return binary
    if shutil.which("go") is None:
        raise HelmError("no helm on PATH, and no Go (https://go.dev/dl) to build it with")
    with hold_lock(cache / ".lock", waiting_for=f"another build in {cache}", report=report):
        if not binary.exists():
            _build(binary, report=report)
    return binary


def _build(binary: Path, *, report: Report) -> None:
    watch = Stopwatch()
    report(f"building helm once, into {binary.parent}; it takes about 2 minutes on 2 cores")
    with tempfile.TemporaryDirectory(prefix=".build-", dir=binary.parent) as scratch:
        draft = Path(scratch) / "helm"
        build = subprocess.Popen(
            ["go", "build", *_flags(), "-o", str(draft), f"{_PACKAGE}/cmd/helm"],
            cwd=_MODULE,
            env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        complaint = None
        while complaint is None:
            try:
                _, complaint = build.communicate(timeout=1)
            except subprocess.TimeoutExpired:
                report(f"building helm: {watch}", passing=True)
        if build.returncode != 0:
            raise HelmError(f"go build of helm failed:\n{complaint[-2000:]}")
        draft.replace(binary)
    report(f"helm: built in {watch}")


def _key() -> str:
    text = "\0".join(((_MODULE / "go.mod").read_text(), (_MODULE / "go.sum").read_text(), *_flags()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _flags() -> tuple[str, ...]:
    """Return the flags of `go build`. Without the versions, helm takes every cluster it does not ask for a v1.20."""
    module = (_MODULE / "go.mod").read_text()
    helm, minor = _find(rf"{_PACKAGE} (v\S+)", module), _find(r"k8s\.io/client-go v0\.(\d+)", module)
    stamps = {f"{_PACKAGE}/internal/version.version": helm}
    for package in ("pkg/lint/rules", "pkg/chartutil"):
        stamps |= {f"{_PACKAGE}/{package}.k8sVersionMajor": "1", f"{_PACKAGE}/{package}.k8sVersionMinor": minor}
    return "-trimpath", "-buildvcs=false", "-ldflags=-s -w " + " ".join(f"-X {k}={v}" for k, v in stamps.items())


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise HelmError(f"tools/helm/go.mod has no line like {pattern!r}")
    return found[1]
