"""Choose loopback addresses and ports, so that several control planes run side by side.

Every control plane has a /16 of 127.0.0.0/8 to itself: pods in its lower half, nodes in its upper half. Its etcd
listens on a fixed port of an address in it, which claims the range on the whole machine for as long as etcd runs.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from baton.dev.provider import ControlPlaneError

if TYPE_CHECKING:
    from collections.abc import Iterable

# Not etcd's usual port: an etcd of the user's may listen there on every address.
ETCD_PORT = 12379
# 127.200.0.0/16 is the range of Services, the same in every control plane: nothing answers there.
SERVICE_RANGE = IPv4Network("127.200.0.0/16")
_RANGES = tuple(IPv4Network(f"127.{number}.0.0/16") for number in range(64, 128))


@dataclass(frozen=True, slots=True)
class AddressRange:
    """The /16 of one control plane."""

    network: IPv4Network

    @property
    def pods(self) -> IPv4Network:
        """Where pods without host network get their addresses."""
        return next(self.network.subnets())

    @property
    def etcd(self) -> IPv4Address:
        """The address that etcd listens on."""
        return self.network.broadcast_address - 1

    def node(self, number: int) -> IPv4Address:
        """Return the address of a node, and of its pods with host network. Numbers begin at 0."""
        return self.network.network_address + (1 << 15) + 1 + number


def choose_range(candidates: Iterable[IPv4Network] = _RANGES) -> AddressRange:
    """Return the first range that no control plane on this machine uses."""
    for network in candidates:
        addresses = AddressRange(network)
        if _can_listen(addresses.etcd):
            return addresses
    raise ControlPlaneError(
        f"No free address range for pods: port {ETCD_PORT} is taken, or can't be used, in each of "
        "127.64.0.0/16 to 127.127.0.0/16. Stop control planes that you don't need: baton dev down --name NAME"
    )


def choose_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now. It may be taken a moment later: try again then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _can_listen(address: IPv4Address) -> bool:
    with socket.socket() as probe:
        # As servers do, so that connections of an earlier etcd that still time out don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(address), ETCD_PORT))
        except OSError:
            return False
        return True
