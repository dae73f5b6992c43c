from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

import virtual_time
from baton.kube.clock import SystemClock
from baton.manager.certificates import Certificate, CertificateError, issue
from baton.manager.webhooks import FileCertificate, Webhook

if TYPE_CHECKING:
    from pathlib import Path


class Refusing:
    """A source without certificates, which notes when it was asked."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked: list[float] = []

    async def current(self) -> Certificate:
        self.asked.append(asyncio.get_running_loop().time())
        raise self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]


def run_for(seconds: float, source: Refusing) -> Webhook:
    webhook = Webhook(source, host="127.0.0.1", port=0, clock=SystemClock(), jitter=lambda: 0.0)

    async def story() -> None:
        running = asyncio.ensure_future(webhook.run())
        await asyncio.sleep(seconds)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    virtual_time.run(story())
    return webhook


def put(directory: Path, certificate: Certificate) -> None:
    (directory / "tls.crt").write_text(certificate.certificate)
    (directory / "tls.key").write_text(certificate.key)


def issued() -> Certificate:
    return issue(["webhook"], now=SystemClock().now())


def test_without_a_certificate_it_is_not_ready_and_says_why() -> None:
    webhook = Webhook(Refusing(), host="127.0.0.1", port=0, clock=SystemClock())
    assert webhook.problem() == "it has not started yet"

    webhook = run_for(1, Refusing(CertificateError("the key is not that of the certificate")))

    assert webhook.problem() == "the key is not that of the certificate"
    assert webhook.port is None


def test_a_failure_is_tried_again_with_back_off() -> None:
    source = Refusing(OSError("no route"))

    run_for(200, source)

    assert source.asked == [0, 1, 3, 7, 15, 31, 63, 123, 183]


def test_a_failure_is_logged_once_and_another_one_again(caplog: pytest.LogCaptureFixture) -> None:
    run_for(200, Refusing(OSError("no route"), OSError("no route"), OSError("no host")))

    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.ERROR]
    assert not any(record.exc_info for record in caplog.records)


def test_a_fault_of_our_own_is_logged_with_its_stack_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    source = Refusing(KeyError("clientConfig"))

    run_for(10, source)

    (record,) = caplog.records
    assert record.exc_info is not None
    assert len(source.asked) == 4


async def test_files_are_read_each_time(tmp_path: Path) -> None:
    source = FileCertificate(tmp_path)
    for certificate in (issued(), issued()):
        put(tmp_path, certificate)

        current = await source.current()

        assert (current.certificate, current.key) == (certificate.certificate, certificate.key)


async def test_files_that_are_not_there_yet_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tls\.crt"):
        await FileCertificate(tmp_path).current()


async def test_files_that_are_half_renewed_are_not_taken(tmp_path: Path) -> None:
    put(tmp_path, issued())
    (tmp_path / "tls.key").write_text(issued().key)

    with pytest.raises(CertificateError, match=r"tls\.crt and tls\.key: the key is not that of the certificate"):
        await FileCertificate(tmp_path).current()
