from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from baton.kube.errors import ConfigurationError
from baton.kube.kubeconfig import kubeconfig_access

if TYPE_CHECKING:
    from baton.kube.access import Access

NOW = dt.datetime(2026, 1, 1, 12, 0, tzinfo=dt.UTC)
AUTHORITY = Path(__file__).with_name("authority.pem")


class FixedClock:
    def now(self) -> dt.datetime:
        return NOW


def write(folder: Path, *, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u"}},
            {"name": "other", "context": {"cluster": "d", "user": "u", "namespace": "team"}},
        ],
        "clusters": [
            {"name": "c", "cluster": {"server": "http://127.0.0.1:8001/", **(cluster or {})}},
            {"name": "d", "cluster": {"server": "http://127.0.0.2:8002"}},
        ],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def load(path: str | None, context: str | None = None) -> tuple[Access, str | None]:
    async def story() -> tuple[Access, str | None]:
        access = await kubeconfig_access(path, context=context, clock=FixedClock())
        return access, await access.authorization.header()

    return asyncio.run(story())


def test_a_token_becomes_the_header(tmp_path: Path) -> None:
    access, header = load(write(tmp_path, user={"token": "secret"}))
    assert (access.url, access.namespace) == ("http://127.0.0.1:8001", "default")
    assert access.tls is None
    assert header == "Bearer secret"


def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    access, _ = load(write(tmp_path, user={"token": "secret"}), "other")
    assert (access.url, access.namespace) == ("http://127.0.0.2:8002", "team")


def test_the_authority_and_the_server_s_name_are_used(tmp_path: Path) -> None:
    data = base64.b64encode(AUTHORITY.read_bytes()).decode()
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": data, "tls-server-name": "kubernetes"}
    access, _ = load(write(tmp_path, user={"token": "secret"}, cluster=cluster))
    assert access.tls is not None
    assert [authority["subject"] for authority in access.tls.get_ca_certs()] == [((("commonName", "test authority"),),)]
    assert access.tls.verify_mode is ssl.CERT_REQUIRED
    assert access.server_name == "kubernetes"


def test_verification_can_be_turned_off(tmp_path: Path) -> None:
    cluster = {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True}
    access, _ = load(write(tmp_path, user={"token": "secret"}, cluster=cluster))
    assert access.tls is not None
    assert access.tls.verify_mode is ssl.CERT_NONE


def exec_user(folder: Path, **status: str) -> dict[str, Any]:
    """A user whose plugin returns its status with the number of the call as the token."""
    calls = folder / "calls"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    script = (
        f"import json, pathlib; calls = pathlib.Path({str(calls)!r}); "
        "number = len(calls.read_text()) if calls.exists() else 0; calls.write_text('x' * (number + 1)); "
        f"credential = json.loads({json.dumps(credential)!r}); credential['status']['token'] = f'token-{{number}}'; "
        "print(json.dumps(credential))"
    )
    plugin = {"apiVersion": credential["apiVersion"], "command": sys.executable, "args": ["-c", script]}
    return {"exec": plugin}


def test_an_exec_plugin_is_asked_once_while_its_token_is_good(tmp_path: Path) -> None:
    path = write(tmp_path, user=exec_user(tmp_path, expirationTimestamp="2026-01-01T13:00:00Z"))
    _, header = load(path)
    assert header == "Bearer token-0"


def test_an_exec_plugin_is_asked_again_before_its_token_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, user=exec_user(tmp_path, expirationTimestamp="2026-01-01T13:00:00Z"))

    async def story() -> list[str | None]:
        loop = asyncio.get_running_loop()
        access = await kubeconfig_access(path, context=None, clock=FixedClock())
        headers = [await access.authorization.header()]
        now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: now + 0.9 * 3600)
        return [*headers, await access.authorization.header()]

    assert asyncio.run(story()) == ["Bearer token-0", "Bearer token-1"]


def test_a_failing_exec_plugin_is_a_configuration_error(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/no/such/plugin"}}
    with pytest.raises(ConfigurationError, match="/no/such/plugin"):
        load(write(tmp_path, user=user))


@pytest.mark.parametrize("context", ["missing", None])
def test_a_missing_file_or_context_is_named(tmp_path: Path, context: str | None) -> None:
    path = write(tmp_path, user={"token": "t"}) if context else str(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match=f"kubeconfig {path}"):
        load(path, context)


def test_a_file_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("a: [")
    with pytest.raises(ConfigurationError, match="kubeconfig"):
        load(str(path))


@pytest.mark.parametrize("part", ["user", "cluster"])
def test_a_context_that_names_no_user_or_no_cluster_is_refused(tmp_path: Path, part: str) -> None:
    path = Path(write(tmp_path, user={}, cluster={"server": "https://127.0.0.1:1"}))
    document = yaml.safe_load(path.read_text())
    del document["contexts"][0]["context"][part]
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigurationError, match=part):
        load(str(path))


@pytest.mark.parametrize("text", ["[]", "3", "contexts: 3", "current-context: a\ncontexts: [3]"])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="kubeconfig"):
        load(str(path))
