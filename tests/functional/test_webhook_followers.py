"""The certificates of operators that do not lead: they take what the leader writes, and write nothing."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from baton.kube.access import open_access
from baton.kube.client import Client
from baton.kube.clock import SystemClock
from baton.kube.errors import Fenced
from baton.kube.resources import VALIDATING_WEBHOOK_CONFIGURATIONS
from baton.manager.certificates import CertificateError
from baton.manager.webhooks import SecretCertificate
from fake_api_server import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


class Clock:
    def __init__(self, *, days: int = 0) -> None:
        self._time = SystemClock().now() + dt.timedelta(days=days)

    def now(self) -> dt.datetime:
        return self._time


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        running.put(CONFIGURATIONS, "baton", namespace="", webhooks=[{"name": "baton", "clientConfig": {}}])
        yield running


@pytest.fixture
async def leader(server: FakeApiServer) -> AsyncIterator[Client]:
    async with Client(open_access(server.url)) as client:
        yield client


@pytest.fixture
async def follower(server: FakeApiServer) -> AsyncIterator[Client]:
    async with Client(open_access(server.url), may_write=lambda: False) as client:
        yield client


def source(client: Client, *, days: int = 0) -> SecretCertificate:
    """The operator's certificate, as it looks so many days from now."""
    return SecretCertificate(
        client,
        namespace="system",
        secret="certificate",
        service="webhook",
        configuration="baton",
        clock=Clock(days=days),
        spread=0.0,
    )


def writes(server: FakeApiServer) -> int:
    return server.count("create") + server.count("patch")


async def test_a_follower_waits_for_the_leader_and_takes_its_certificate(
    server: FakeApiServer, leader: Client, follower: Client
) -> None:
    with pytest.raises(CertificateError, match="has not issued a certificate yet"):
        await source(follower).current()

    certificate = await source(leader).current()
    before = writes(server)

    assert await source(follower).current() == certificate
    assert writes(server) == before


async def test_a_follower_serves_what_is_due_for_renewal_until_the_leader_renews_it(
    leader: Client, follower: Client
) -> None:
    certificate = await source(leader).current()

    assert await source(follower, days=300).current() == certificate


async def test_a_follower_serves_nothing_that_api_servers_do_not_trust_yet(leader: Client, follower: Client) -> None:
    await source(leader).current()
    nobody = {"webhooks": [{"name": "baton", "clientConfig": {}}]}
    await leader.patch(VALIDATING_WEBHOOK_CONFIGURATIONS, None, "baton", nobody)

    with pytest.raises(Fenced):
        await source(follower).current()


async def test_a_follower_leaves_old_authorities_to_the_leader(leader: Client, follower: Client) -> None:
    await source(leader).current()
    renewed = await source(leader, days=300).current()

    assert await source(follower, days=310).current() == renewed
