from __future__ import annotations

import socket
from ipaddress import IPv4Network

import pytest

from baton.dev.addresses import ETCD_PORT, SERVICE_RANGE, AddressRange, choose_port, choose_range
from baton.dev.provider import ControlPlaneError

# Not among the ranges that control planes use, so that none that runs beside the tests is disturbed.
FIRST = IPv4Network("127.30.0.0/16")
SECOND = IPv4Network("127.31.0.0/16")


def test_pods_nodes_and_etcd_have_addresses_of_their_own() -> None:
    addresses = AddressRange(FIRST)
    nodes = {addresses.node(number) for number in range(5000)}
    assert len(nodes) == 5000
    assert not any(node in addresses.pods for node in nodes)
    assert addresses.etcd not in nodes | set(addresses.pods)
    assert {addresses.etcd, *nodes} <= set(FIRST)


def test_a_range_in_use_is_passed_over() -> None:
    with socket.create_server((str(AddressRange(FIRST).etcd), ETCD_PORT)):
        assert choose_range([FIRST, SECOND]).network == SECOND
    assert choose_range([FIRST, SECOND]).network == FIRST


def test_no_free_range_is_an_error_that_says_what_to_stop() -> None:
    with pytest.raises(ControlPlaneError, match="baton dev down"):
        choose_range([])


def test_the_usual_ranges_are_loopback_and_keep_clear_of_services() -> None:
    network = choose_range().network
    assert network.is_loopback
    assert not network.overlaps(SERVICE_RANGE)


def test_a_chosen_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", choose_port())) as server:
        assert server.getsockname()[1] > 0
