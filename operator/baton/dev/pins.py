"""Which programs the local control plane consists of, pinned by the Go module in tools/control-plane.

It reads the pins and says how to build them; it builds nothing (binaries.py).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.dev.assets import find_asset
from baton.dev.provider import ControlPlaneError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Binary → its Go package, in build order. The first is the longest: it compiles most of what the others share.
PACKAGES: Mapping[str, str] = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "etcd": "go.etcd.io/etcd/server/v3",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
}
# Both carry a version of their own: the server reports the first, clients the second.
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True, slots=True)
class Pins:
    """The module that pins the programs, and what follows from it.

    `directory` holds go.mod, go.sum and stages.yaml. `go_version` is the oldest Go that can build it ("1.26.0").
    """

    directory: Path
    go_version: str
    kubernetes_version: str
    key: str
    flags: tuple[str, ...]

    @property
    def stages(self) -> Path:
        """What KWOK does to nodes and pods."""
        return self.directory / "stages.yaml"


def read_pins(directory: Path) -> Pins:
    """Read the module in a directory. The key changes with anything that changes a binary, and with nothing else."""
    try:
        module = (directory / "go.mod").read_text()
        sums = (directory / "go.sum").read_text()
    except FileNotFoundError as error:
        raise ControlPlaneError(f"{error.filename} is missing: install Baton again, or restore the checkout") from None
    go_version = _find(r"^go (\S+)$", module)
    kubernetes_version = _find(r"^\s*k8s\.io/kubernetes (\S+)", module)
    flags = build_flags(kubernetes_version)
    text = "\0".join((module, sums, *flags, *PACKAGES.values()))
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Pins(directory=directory, go_version=go_version, kubernetes_version=kubernetes_version, key=key, flags=flags)


def build_flags(kubernetes_version: str) -> tuple[str, ...]:
    """Return the flags of `go build`. Without the version, servers report v0.0.0 and clients find them too old."""
    major, minor, _ = kubernetes_version.removeprefix("v").split(".", 2)
    facts = {"gitVersion": kubernetes_version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    stamps = " ".join(f"-X {package}.{name}={value}" for package in _VERSION_PACKAGES for name, value in facts.items())
    return ("-trimpath", "-buildvcs=false", f"-ldflags=-s -w {stamps}")


def find_module() -> Path:
    """Find the module that belongs to this version of Baton."""
    return find_asset("_control_plane", checkout="tools/control-plane")


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise ControlPlaneError(f"go.mod has no line like {pattern!r}: restore tools/control-plane")
    return found[1]
