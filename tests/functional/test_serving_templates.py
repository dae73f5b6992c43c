"""The users' own launch templates through the reconciler of ModelServings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.api import labels
from baton.kube.resources import CONFIG_MAPS, PODS
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import Rig
from rendering_builders import pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with FakeApiServer() as server, Rig.at(server) as made:
        yield made


async def test_templates_of_the_users_are_followed(rig: Rig) -> None:
    document = pair(templates={"configMap": "mine"}).document()
    document["metadata"] = {"name": "demo", "uid": "uid-of-demo"}
    labelled = {"labels": {labels.TEMPLATES: ""}}
    rig.server.put("/api/v1/configmaps", "mine", data={"ready.sh.j2": "exit 0\n"})
    await rig.apply(document)
    await rig.serving()
    refused = await rig.condition("Accepted")
    assert "spec.template.engine.templates.configMap: there is no ConfigMap ns/mine" in refused["message"]

    rig.server.put("/api/v1/configmaps", "mine", data={"ready.sh.j2": "exit 0\n"}, metadata=labelled)
    await rig.serving()
    assert (await rig.condition("Accepted"))["status"] == "True"
    pods, launches = await rig.uids(PODS), set(await rig.names(CONFIG_MAPS))
    assert len(pods) == 2

    rig.server.put("/api/v1/configmaps", "mine", data={"ready.sh.j2": "exit 1\n"}, metadata=labelled)
    await rig.serving()
    assert await rig.uids(PODS) == pods, "running pods keep their launch"
    later = [
        item["data"]["ready.sh"]
        for item in (await rig.client.list(CONFIG_MAPS))["items"]
        if "launch" in item["metadata"]["name"]
    ]
    assert sorted(later) == ["exit 0\n"] * 2 + ["exit 1\n"] * 2
    assert launches < set(await rig.names(CONFIG_MAPS))

    rig.server.remove("/api/v1/configmaps", "mine")
    await rig.serving()
    assert (await rig.condition("Accepted"))["status"] == "False"
    assert await rig.uids(PODS) == pods
