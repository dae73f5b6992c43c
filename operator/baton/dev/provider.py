"""The one shape of every control plane that development, demo and tests use.

It starts nothing itself: see local.py, kind.py and kubeconfig.py.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ipaddress import IPv4Network
    from pathlib import Path
    from types import TracebackType

DEFAULT_NAME = "default"
# A name becomes a directory and, for kind, part of container names.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


class ControlPlaneError(Exception):
    """A control plane can't be had: the message says what failed and what to do, ready to be shown."""


class Provider(StrEnum):
    """Where a control plane comes from."""

    LOCAL = "local"
    KIND = "kind"
    KUBECONFIG = "kubeconfig"


@dataclass(frozen=True, slots=True)
class Component:
    """One program of a control plane and whether it runs."""

    name: str
    pid: int
    is_running: bool


@dataclass(frozen=True, slots=True)
class Node:
    """One node as the API server knows it."""

    name: str
    is_ready: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What a control plane looks like now.

    `components` is empty where the programs are not ours; `nodes` is empty while the API server does not answer.
    """

    is_up: bool
    components: tuple[Component, ...] = ()
    nodes: tuple[Node, ...] = ()


class ControlPlane(ABC):
    """A Kubernetes API server with nodes; as a context manager it is up inside and down after, whatever happens.

    `kubeconfig` and `kubectl` are usable after `up`. `simulates_pods` is true where no container runs and pods are
    merely said to be Running; their addresses, and those of the nodes, are then loopback addresses.
    """

    kubeconfig: Path
    kubectl: Path
    simulates_pods: bool

    @property
    def pod_address_range(self) -> IPv4Network | None:
        """The range of simulated pods and nodes; None where pods are real or the control plane is down."""
        return None

    @abstractmethod
    def up(self) -> None:
        """Start it and wait until pods can run; do nothing when it is up. Raises `ControlPlaneError`."""

    @abstractmethod
    def down(self) -> None:
        """Stop and forget what `up` started; do nothing when it is down."""

    @abstractmethod
    def status(self) -> Status:
        """Look at it, without changing anything."""

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def check_name(name: str) -> None:
    """Raise `ControlPlaneError` unless a control plane may have this name: a DNS label of at most 40 characters."""
    if not _NAME.fullmatch(name):
        raise ControlPlaneError(
            f"name {name!r}: use at most 40 lower-case letters, digits and hyphens, "
            "beginning and ending with a letter or a digit"
        )
