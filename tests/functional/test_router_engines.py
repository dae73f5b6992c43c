"""The router's connections to engines: kept, closed by either side, bounded."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from baton.api.traffic import Protocol
from baton.router.data_path_settings import DataPathSettings
from baton.routing.types import Choice
from functional.router_fixture import (
    Client,
    Message,
    Reply,
    Rig,
    chat,
    eventually,
    generated,
    on_uvloop,
    request,
    router,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Script = Callable[[Message, Reply], Awaitable[None]]


def idle(rig: Rig) -> int:
    return int(repr(rig.server).rpartition("Connections: ")[2].split()[0])


@on_uvloop
async def test_connections_are_kept_and_used_again() -> None:
    async with router() as rig:
        for _ in range(3):
            assert (await rig.ask(chat())).status == 200

        assert [engine.connections for engine in rig.prefill + rig.decode] == [1, 1]
        assert idle(rig) == 2


@on_uvloop
async def test_an_engine_that_closes_an_idle_connection_is_not_noticed() -> None:
    async def closes(request: Message, reply: Reply) -> None:
        await generated(request, reply)
        reply.writer.close()

    async with router(prefill=(), decode=[closes], attempts=0) as rig:
        for _ in range(3):
            assert (await rig.ask(chat())).status == 200
            await eventually(lambda: idle(rig) == 0)

        assert rig.decode[0].connections == 3


@pytest.mark.parametrize("stream", [True, False])
@on_uvloop
async def test_a_kept_connection_that_dies_under_a_request_is_replaced(stream: bool) -> None:
    async def dies_when_used_again(request: Message, reply: Reply) -> None:
        if len(engine.requests) == 2:
            reply.hang_up()
        else:
            await generated(request, reply)

    async with router(prefill=(), decode=[dies_when_used_again], attempts=0) as rig:
        engine = rig.decode[0]
        answers = [await rig.ask(chat(stream=stream)) for _ in range(2)]

        assert (len(engine.requests), engine.connections) == (3, 2)
    assert [answer.status for answer in answers] == [200, 200]


@on_uvloop
async def test_a_request_is_sent_again_only_once() -> None:
    async def dies_from_the_second_on(request: Message, reply: Reply) -> None:
        if len(rig.decode[0].requests) > 1:
            reply.hang_up()
        else:
            await generated(request, reply)

    async with router(prefill=(), decode=[dies_from_the_second_on], attempts=0) as rig:
        answers = [await rig.ask(chat()) for _ in range(2)]

        assert len(rig.decode[0].requests) == 3
    assert [answer.status for answer in answers] == [200, 502]


@on_uvloop
async def test_idle_connections_are_closed_before_the_engine_does() -> None:
    async with router(settings=DataPathSettings(keep_time=0.05)) as rig:
        await rig.ask(chat())
        assert idle(rig) == 2

        await eventually(lambda: idle(rig) == 0)


@on_uvloop
async def test_idle_connections_are_bounded() -> None:
    async def waits(request: Message, reply: Reply) -> None:
        await release.wait()
        await generated(request, reply)

    release = asyncio.Event()
    async with router(prefill=(), decode=[waits], settings=DataPathSettings(max_idle_connections=2)) as rig:
        asking = [asyncio.ensure_future(rig.ask(chat())) for _ in range(5)]
        await eventually(lambda: len(rig.decode[0].requests) == 5)
        release.set()
        answers = await asyncio.gather(*asking)

        assert idle(rig) == 2
    assert [answer.status for answer in answers] == [200] * 5


ONE_CONNECTION = DataPathSettings(max_endpoint_connections=1)


@on_uvloop
async def test_requests_beyond_the_limit_of_connections_wait_for_one() -> None:
    async def waits(request: Message, reply: Reply) -> None:
        await release.wait()
        await generated(request, reply)

    release = asyncio.Event()
    async with router(prefill=(), decode=[waits], settings=ONE_CONNECTION) as rig:
        first = asyncio.ensure_future(rig.ask(chat()))
        await eventually(lambda: len(rig.decode[0].requests) == 1)
        leaving = await rig.send(request(chat()))
        await eventually(lambda: "1 waiting" in repr(rig.server))
        second = asyncio.ensure_future(rig.ask(chat()))
        await eventually(lambda: "2 waiting" in repr(rig.server))
        leaving.close()
        await eventually(lambda: "1 waiting" in repr(rig.server))
        release.set()

        assert [(await first).status, (await second).status] == [200, 200]
        assert (len(rig.decode[0].requests), rig.decode[0].connections) == (2, 1)


@on_uvloop
async def test_requests_wait_for_a_connection_no_longer_than_their_deadline() -> None:
    async def never_answers(request: Message, reply: Reply) -> None:
        await reply.client_gone()

    async with router(prefill=(), decode=[never_answers], settings=ONE_CONNECTION, timeout=0.1) as rig:
        answers = await asyncio.gather(rig.ask(chat()), rig.ask(chat()))

    assert [answer.json["error"]["code"] for answer in answers] == ["upstream_timeout"] * 2


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"x"])
@on_uvloop
async def test_bytes_beyond_an_answer_are_given_to_nobody(extra: bytes) -> None:
    async def says_too_much(request: Message, reply: Reply) -> None:
        await reply.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + extra)

    async with router(prefill=(), decode=[says_too_much]) as rig:
        answers = [await rig.ask(chat()) for _ in range(2)]

        assert rig.decode[0].connections == 2
    assert [answer.body for answer in answers] == [b"{}", b"{}"]


@on_uvloop
async def test_bytes_that_nobody_asked_for_close_an_idle_connection() -> None:
    async def talks_later(request: Message, reply: Reply) -> None:
        await generated(request, reply)
        await eventually(lambda: idle(rig) == 1)
        await reply.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with router(prefill=(), decode=[talks_later]) as rig:
        await rig.ask(chat())
        await eventually(lambda: idle(rig) == 0)

        assert (await rig.ask(chat())).status == 200


@on_uvloop
async def test_interim_answers_are_kept_from_the_client() -> None:
    async def hints(request: Message, reply: Reply) -> None:
        await reply.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        await generated(request, reply)

    async with router(prefill=(), decode=[hints]) as rig:
        answer = await rig.ask(chat())

    assert answer.status == 200
    assert "link" not in answer.headers


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a certificate for 127.0.0.1 and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate of this test, and is not here")
    make = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    path = tmp_path / "certificate.pem"
    subprocess.run([*make, *names, "-keyout", path, "-out", tmp_path / "only.pem"], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "only.pem").read_bytes())
    return path


@on_uvloop
async def test_both_sides_may_speak_tls(certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))

    async with router(prefill=(), tls=serving, engine_tls=trusting) as rig:
        port = await rig.server.start("127.0.0.1", 0, tls=serving)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        client = Client(reader, writer)
        rig.clients.append(client)
        answers = [await client.ask(chat(stream=stream)) for stream in (True, False)]

        assert rig.decode[0].connections == 1
    assert [answer.status for answer in answers] == [200, 200]


@on_uvloop
async def test_an_engine_that_does_not_speak_tls_as_announced_is_not_used() -> None:
    async with router(prefill=(), attempts=0, settings=DataPathSettings(connect_time=0.1)) as rig:
        rig.directory.choices = [Choice(replace(rig.decode[0].endpoint, protocol=Protocol.HTTPS))]
        answer = await rig.ask(chat())

    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_refused")
