from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

import virtual_time
from baton.kube.access import Authorization, Credentials, in_cluster_access, open_access, tls_context
from baton.kube.errors import ConfigurationError

ENVIRONMENT = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


class Loads:
    """Returns one set of credentials after the other, or raises."""

    def __init__(self, *results: Credentials | Exception) -> None:
        self.results = list(results)

    async def __call__(self) -> Credentials:
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def test_a_url_loses_the_slash_at_its_end() -> None:
    assert open_access("http://127.0.0.1:1/").url == "http://127.0.0.1:1"


def test_credentials_without_a_lifetime_are_loaded_once() -> None:
    async def story() -> None:
        authorization = Authorization(Loads(Credentials("one")))
        assert await authorization.header() == "one"
        await asyncio.sleep(10**6)
        assert await authorization.header() == "one"

    virtual_time.run(story())


def test_credentials_are_loaded_again_when_their_time_is_over() -> None:
    async def story() -> None:
        authorization = Authorization(Loads(Credentials("one", lifetime=60), Credentials("two", lifetime=60)))
        assert await authorization.header() == "one"
        await asyncio.sleep(59)
        assert await authorization.header() == "one"
        await asyncio.sleep(2)
        assert await authorization.header() == "two"

    virtual_time.run(story())


def test_refused_credentials_are_loaded_again_at_once_if_they_have_some_age() -> None:
    async def story() -> None:
        authorization = Authorization(Loads(Credentials("one"), Credentials("two")))
        await asyncio.sleep(100)
        assert await authorization.header() == "one"
        assert await authorization.header_after_refusal("one") == "one"
        await asyncio.sleep(6)
        assert await authorization.header_after_refusal("one") == "two"
        assert await authorization.header_after_refusal("one") == "two"

    virtual_time.run(story())


def test_a_failed_reload_keeps_the_old_credentials(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        authorization = Authorization(Loads(Credentials("one", lifetime=60), OSError("no disk"), Credentials("two")))
        await authorization.header()
        await asyncio.sleep(61)
        assert await authorization.header() == "one"
        await asyncio.sleep(61)
        assert await authorization.header() == "two"

    virtual_time.run(story())
    assert len(caplog.records) == 1


def test_a_failed_first_load_is_a_configuration_error() -> None:
    async def story() -> None:
        with pytest.raises(ConfigurationError, match="no disk"):
            await Authorization(Loads(OSError("no disk"))).header()

    virtual_time.run(story())


@pytest.fixture
def service_account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "ca.crt").write_bytes(Path(__file__).with_name("authority.pem").read_bytes())
    return tmp_path


@pytest.mark.parametrize(("host", "url"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")])
def test_a_pod_finds_its_api_server(service_account: Path, host: str, url: str) -> None:
    environment = ENVIRONMENT | {"KUBERNETES_SERVICE_HOST": host}
    access = in_cluster_access(environment=environment, service_account=service_account)
    assert access.url == url
    assert access.tls is not None
    assert access.tls.verify_mode is ssl.CERT_REQUIRED
    assert access.namespace == "default"


def test_a_pod_means_its_own_namespace(service_account: Path) -> None:
    (service_account / "namespace").write_text("team")
    assert in_cluster_access(environment=ENVIRONMENT, service_account=service_account).namespace == "team"


def test_outside_a_cluster_the_cure_is_a_kubeconfig() -> None:
    with pytest.raises(ConfigurationError, match="pass a kubeconfig"):
        in_cluster_access(environment={})


def test_a_pod_without_a_token_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="automountServiceAccountToken"):
        in_cluster_access(environment=ENVIRONMENT, service_account=tmp_path)


def test_a_missing_authority_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ca\.crt"):
        tls_context(tmp_path / "ca.crt")


def test_verification_can_be_turned_off() -> None:
    assert tls_context(None, verify=False).verify_mode is ssl.CERT_NONE
