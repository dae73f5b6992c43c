"""Where the router listens: addresses of both kinds, shared ports, and TLS whose certificate changes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING

import pytest

from baton.manager.certificates import issue
from baton.router.certificates import ListenerCertificate, engine_context
from baton.router.listening import open_sockets, port_of
from baton.router.start_error import StartError
from functional.router_fixture import DEADLINE, Client, chat, eventually, has_ipv6, on_uvloop, router
from functional.router_process import aggregated, document, engines, running, write
from functional.router_process import eventually as eventually_asked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from baton.manager.certificates import Certificate
    from functional.router_fixture import Rig

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
VALIDITY = dt.timedelta(days=36500)


def certificate_in(folder: Path) -> Certificate:
    """Write a new certificate for localhost and its key, and return them."""
    made = issue(["localhost"], now=NOW, validity=VALIDITY)
    (folder / "tls.key").write_text(made.key)
    (folder / "tls.crt").write_text(made.certificate)
    return made


def trusting(made: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=made.authority)


async def ask(port: int, made: Certificate) -> int:
    """Return the status of an answer over TLS; 0 if the certificate is another one."""
    try:
        opened = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(made), server_hostname="localhost")
    except ssl.SSLCertVerificationError:
        return 0
    client = Client(*opened)
    status = (await client.get("/healthz")).status
    client.close()
    return status


@contextlib.asynccontextmanager
async def following(certificate: ListenerCertificate) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(certificate.follow())
        yield
        task.cancel()


async def tls_port(rig: Rig, certificate: ListenerCertificate) -> int:
    return await rig.server.start("127.0.0.1", 0, tls=certificate.context)


@on_uvloop
async def test_a_new_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    old = certificate_in(tmp_path)
    certificate = ListenerCertificate(tmp_path / "tls.crt", tmp_path / "tls.key", interval=0.02)
    async with router() as rig, following(certificate):
        port = await tls_port(rig, certificate)
        kept = Client(*await asyncio.open_connection("127.0.0.1", port, ssl=trusting(old), server_hostname="localhost"))
        assert (await ask(port, old), (await kept.ask(chat())).status) == (200, 200)

        new = certificate_in(tmp_path)
        await eventually_asked(partial(ask, port, new), 200)
        assert await ask(port, old) == 0
        assert (await kept.ask(chat())).status == 200
        kept.close()


@on_uvloop
async def test_a_certificate_without_its_key_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = certificate_in(tmp_path)
    certificate = ListenerCertificate(tmp_path / "tls.crt", tmp_path / "tls.key", interval=60.0)
    async with router() as rig, following(certificate):
        port = await tls_port(rig, certificate)
        new = issue(["localhost"], now=NOW, validity=VALIDITY)
        (tmp_path / "tls.crt").write_text(new.certificate)
        certificate.reload()
        await eventually(lambda: "cannot be used" in caplog.text)
        assert await ask(port, old) == 200

        (tmp_path / "tls.key").write_text(new.key)
        certificate.reload()
        await eventually_asked(partial(ask, port, new), 200)


async def test_the_process_takes_a_new_certificate_when_it_is_told(tmp_path: Path) -> None:
    engine, made = aggregated("a"), certificate_in(tmp_path)
    tls = ("--tls-certificate", str(tmp_path / "tls.crt"), "--tls-key", str(tmp_path / "tls.key"))
    async with engines(engine), running("--config", write(tmp_path / "r.yaml", document("m", engine)), *tls) as app:
        port = int(app.url.rpartition(":")[2])
        assert await ask(port, made) == 200
        made = certificate_in(tmp_path)
        app.process.send_signal(1)
        await eventually_asked(partial(ask, port, made), 200)


async def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("x")
    with pytest.raises(StartError, match=r"x\.pem and .*give PEM files"):
        ListenerCertificate(tmp_path / "x.pem", tmp_path / "x.pem")
    with pytest.raises(StartError, match=r"x\.pem.*give a PEM file"):
        engine_context(tmp_path / "x.pem")
    with pytest.raises(StartError, match=r"absent.*give PEM files"):
        ListenerCertificate(tmp_path / "absent", tmp_path / "absent")


@on_uvloop
async def test_no_handshake_fails_while_certificates_change(tmp_path: Path) -> None:
    made = [certificate_in(tmp_path)]
    certificate = ListenerCertificate(tmp_path / "tls.crt", tmp_path / "tls.key", interval=0.001)
    async with router() as rig, following(certificate):
        port = await tls_port(rig, certificate)
        for _ in range(5):
            made.append(certificate_in(tmp_path))
            async with asyncio.timeout(DEADLINE):
                while not await ask(port, made[-1]):
                    pass  # each of these handshakes ends well, or with the older certificate


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
@pytest.mark.parametrize("host", ["::1", "::", ""])
@on_uvloop
async def test_clients_may_come_over_ipv6(host: str) -> None:
    async with router() as rig:
        rig_port = await rig.server.start(host, 0)
        client = Client(*await asyncio.open_connection("::1", rig_port))
        assert (await client.ask(chat())).status == 200
        client.close()


async def test_all_addresses_of_a_host_get_the_same_port() -> None:
    sockets = await open_sockets("", 0, option="--port")
    assert len({opened.getsockname()[1] for opened in sockets}) == 1
    assert [opened.family for opened in sockets].count(socket.AF_INET) == 1
    for opened in sockets:
        opened.close()


async def test_a_shared_port_may_be_opened_twice_and_any_other_only_once() -> None:
    shared = await open_sockets("127.0.0.1", 0, option="--port", is_shared=True)
    again = await open_sockets("127.0.0.1", port_of(shared), option="--port", is_shared=True)
    with pytest.raises(StartError, match="Address already in use; choose another place with --port"):
        await open_sockets("127.0.0.1", port_of(shared), option="--port")
    for opened in shared + again:
        opened.close()
