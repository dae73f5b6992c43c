from __future__ import annotations

import datetime as dt
import os
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from baton.kube.clock import SystemClock
from baton.manager.certificates import (
    Certificate,
    CertificateError,
    expiry,
    issue,
    reason_to_issue,
    service_names,
    trusted,
)

if TYPE_CHECKING:
    from pathlib import Path

NAMES = service_names("webhook", "baton-system")
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return issue(NAMES, now=NOW)


def hand_shake(server: Certificate, *, name: str, trusting: str, directory: Path) -> None:
    """Let a client that verifies as Python 3.13 does by default talk to a server; raises ssl.SSLError."""
    chain = directory / "chain.pem"
    chain.write_text(server.key + server.certificate)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(chain)
    client_context = ssl.create_default_context(cadata=trusting)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client_context.wrap_bio(to_client, to_server, server_hostname=name),
        server_context.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert sides[0].getpeercert() is not None


def as_of_today() -> Certificate:
    return issue(NAMES, now=SystemClock().now())


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_authority_accepts_each_name_of_the_service(name: str, tmp_path: Path) -> None:
    certificate = as_of_today()

    hand_shake(certificate, name=name, trusting=certificate.authority, directory=tmp_path)


def test_a_client_accepts_no_other_name_and_no_other_authority(tmp_path: Path) -> None:
    certificate, other = as_of_today(), as_of_today()

    with pytest.raises(ssl.SSLCertVerificationError, match="match"):
        hand_shake(certificate, name="other.baton-system.svc", trusting=certificate.authority, directory=tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"signature|issuer|self-signed"):
        hand_shake(certificate, name=NAMES[2], trusting=other.authority, directory=tmp_path)


def test_old_and_new_certificates_are_accepted_while_both_authorities_are_trusted(tmp_path: Path) -> None:
    old, new = as_of_today(), as_of_today()
    both = trusted(new, old.authority, now=SystemClock().now())

    hand_shake(old, name=NAMES[2], trusting=both, directory=tmp_path)
    hand_shake(new, name=NAMES[2], trusting=both, directory=tmp_path)


def test_a_certificate_is_valid_for_a_year_and_for_servers_with_slow_clocks(certificate: Certificate) -> None:
    leaf = x509.load_pem_x509_certificate(certificate.certificate.encode())

    assert expiry(certificate) == NOW + 365 * DAY
    assert leaf.not_valid_before_utc < NOW


def test_the_serving_certificate_can_sign_nothing(certificate: Certificate) -> None:
    leaf = x509.load_pem_x509_certificate(certificate.certificate.encode())

    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_the_private_key_is_not_shown(certificate: Certificate) -> None:
    assert "PRIVATE KEY" in certificate.key
    assert "PRIVATE KEY" not in repr(certificate)


def test_it_is_renewed_when_less_than_a_third_of_its_time_is_left(certificate: Certificate) -> None:
    third = 365 * DAY / 3

    assert reason_to_issue(certificate, names=NAMES, now=NOW) == ""
    assert reason_to_issue(certificate, names=NAMES, now=NOW + 2 * third - DAY) == ""
    late = reason_to_issue(certificate, names=NAMES, now=NOW + 2 * third + DAY)
    assert late == "ends at 2027-01-01 00:00 UTC"


def test_a_missing_certificate_is_issued() -> None:
    assert reason_to_issue(Certificate("", ""), names=NAMES, now=NOW) == "is missing"


def test_a_certificate_for_other_names_is_replaced(certificate: Certificate) -> None:
    names = service_names("renamed", "baton-system")

    assert "renamed.baton-system.svc" in reason_to_issue(certificate, names=names, now=NOW)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"certificate": "text"}, "cannot be used: the certificate is no PEM certificate"),
        ({"key": "text"}, "cannot be used: the key is no PEM key without a password"),
        ({"key": issue(NAMES, now=NOW).key}, "cannot be used: the key is not that of the certificate"),
        ({"authority": ""}, "cannot be used: "),
        ({"authority": issue(NAMES, now=NOW).authority}, "was signed by another authority"),
    ],
)
def test_what_cannot_be_served_is_replaced(certificate: Certificate, broken: dict[str, str], reason: str) -> None:
    assert reason_to_issue(replace(certificate, **broken), names=NAMES, now=NOW).startswith(reason)


def test_a_key_with_a_password_is_refused(certificate: Certificate) -> None:
    key = serialization.load_pem_private_key(certificate.key.encode(), password=None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(os.urandom(8)),
    )

    with pytest.raises(CertificateError, match="without a password"):
        expiry(replace(certificate, key=locked.decode()))


def test_earlier_authorities_stay_trusted_until_every_operator_has_the_new_certificate() -> None:
    old, new = issue(NAMES, now=NOW), issue(NAMES, now=NOW + 300 * DAY)
    issued = NOW + 300 * DAY

    during = trusted(new, old.authority, now=issued)
    assert during == new.authority + old.authority
    assert trusted(new, during, now=issued + DAY / 2) == during
    assert trusted(new, during, now=issued + DAY) == new.authority


def test_an_authority_that_ended_is_not_trusted_any_longer() -> None:
    old, new = issue(NAMES, now=NOW, validity=DAY), issue(NAMES, now=NOW + DAY)

    assert trusted(new, old.authority, now=NOW + DAY) == new.authority


@pytest.mark.parametrize("present", ["", "placeholder"])
def test_a_bundle_that_holds_no_certificate_is_replaced(certificate: Certificate, present: str) -> None:
    assert trusted(certificate, present, now=NOW) == certificate.authority
