from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.kube.resources import MODEL_SERVERS
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import Rig, model_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from baton.kube.types import JsonObject


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with FakeApiServer() as server, Rig.at(server) as made:
        yield made


async def condition(rig: Rig) -> JsonObject:
    return await rig.condition("Accepted", of=MODEL_SERVERS)


async def test_a_server_that_can_be_used_says_so_once(rig: Rig) -> None:
    await rig.apply(model_server())
    await rig.model_server()
    told = await condition(rig)
    assert (told["status"], told["observedGeneration"]) == ("True", 1)
    before = rig.writes()
    rig.clock.skip(60)
    await rig.model_server()
    assert rig.writes() == before


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"workloadPort": {"port": 0}}, "spec.workloadPort.port"),
        ({"inferenceEngine": "Other"}, "spec.inferenceEngine"),
        ({"workloadSelector": {"matchLabels": {"app": "no label"}}}, "spec.workloadSelector.matchLabels"),
    ],
)
async def test_a_server_that_cannot_be_used_says_why_until_it_is_mended(rig: Rig, spec: JsonObject, path: str) -> None:
    await rig.apply(model_server(**spec))
    await rig.model_server()
    told = await condition(rig)
    assert (told["status"], told["reason"]) == ("False", "Invalid")
    assert path in told["message"]

    await rig.apply(model_server())
    await rig.model_server()
    assert (await condition(rig))["status"] == "True"


async def test_a_doubtful_server_is_accepted_with_its_warnings(rig: Rig) -> None:
    group = {"groupKey": "g", "prefillLabels": {"r": "p"}, "decodeLabels": {"r": "d"}}
    await rig.apply(model_server(workloadSelector={"matchLabels": {"app": "x"}, "pdGroup": group}))
    await rig.model_server()
    told = await condition(rig)
    assert (told["status"], told["reason"]) == ("True", "AcceptedWithWarnings")
    assert "spec.kvConnector" in told["message"]


async def test_a_server_that_is_gone_or_has_just_gone_is_nobodys_loss(rig: Rig) -> None:
    await rig.model_server()
    await rig.apply(model_server())
    rig.refuse("patch", 404, "NotFound", "no such ModelServer")
    await rig.model_server()
    assert rig.server.count("patch") == 1
