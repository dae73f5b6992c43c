from __future__ import annotations

import json
import re
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from baton.dev.addresses import AddressRange
from baton.dev.components import ORDER, Layout, commands, make_scheduler_configuration

LAYOUT = Layout(
    directory=Path("/state"),
    binaries=Path("/cache"),
    stages=Path("/module/stages.yaml"),
    addresses=AddressRange(IPv4Network("127.70.0.0/16")),
    port=43210,
)


def test_every_program_runs_from_the_cache_in_start_order() -> None:
    assert [command[0] for command in commands(LAYOUT).values()] == [f"/cache/{name}" for name in ORDER]


@pytest.mark.parametrize("name", ORDER)
def test_a_program_listens_on_loopback_only(name: str) -> None:
    command = " ".join(commands(LAYOUT)[name])
    found = [IPv4Address(text) for text in re.findall(r"\d+\.\d+\.\d+\.\d+", command)]
    assert all(address.is_loopback for address in found)
    # Those without an address of their own must not listen at all.
    assert found or "--secure-port=0" in command


def test_the_api_server_checks_permissions_and_takes_privileged_pods() -> None:
    flags = commands(LAYOUT)["kube-apiserver"]
    assert {"--authorization-mode=Node,RBAC", "--allow-privileged=true", "--secure-port=43210"} <= set(flags)
    assert LAYOUT.server == "https://127.0.0.1:43210"


def test_kwok_gives_pods_addresses_of_the_control_planes_own_range() -> None:
    assert "--cidr=127.70.0.0/17" in commands(LAYOUT)["kwok"]


def test_the_scheduler_answers_to_volcano_too() -> None:
    document = json.loads(make_scheduler_configuration(LAYOUT))
    assert [profile["schedulerName"] for profile in document["profiles"]] == ["default-scheduler", "volcano"]
    assert document["clientConnection"]["kubeconfig"] == "/state/kubeconfig"
