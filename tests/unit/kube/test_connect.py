from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from kubernetes_asyncio import config

from baton.kube.connect import connect, find_access
from baton.kube.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

INSIDE = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"http://{name}:8080"}} for name in ("first", "second")],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in ("first", "second")],
        "current-context": "first",
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(document))
    return str(path)


async def test_a_named_file_wins_inside_a_cluster_too(kubeconfig: str) -> None:
    assert (await find_access(kubeconfig, environment=INSIDE)).url == "http://first:8080"


async def test_a_context_is_that_of_the_file(kubeconfig: str) -> None:
    assert (await find_access(kubeconfig, "second", environment={})).url == "http://second:8080"


async def test_inside_a_cluster_the_service_account_is_meant() -> None:
    with pytest.raises(ConfigurationError, match="automountServiceAccountToken"):
        await find_access(None, environment=INSIDE)  # this machine has none: the message shows which way it went


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"kubeconfig {tmp_path}/nothing: there is no such file"):
        await connect(str(tmp_path / "nothing"))


async def test_without_any_file_the_places_and_the_option_are_named(tmp_path: Path) -> None:
    places = f"{tmp_path}/one:{tmp_path}/two"
    with pytest.raises(ConfigurationError, match=f"no kubeconfig at {places}: pass --kubeconfig"):
        await find_access(None, environment={"KUBECONFIG": places})


async def test_one_of_several_files_is_enough(kubeconfig: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", kubeconfig)
    access = await find_access(None, environment={"KUBECONFIG": f"{tmp_path}/nothing:{kubeconfig}"})
    assert access.url == "http://first:8080"


async def test_an_unknown_context_is_named(kubeconfig: str) -> None:
    with pytest.raises(ConfigurationError, match="third"):
        await connect(kubeconfig, "third")
