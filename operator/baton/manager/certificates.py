"""The webhook's certificates: issues them, says when they must be issued anew, and which authorities to trust.

Keeps, sends and loads nothing; apart from the random numbers in keys and serials, the result depends on the arguments.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

_VALIDITY: Final = dt.timedelta(days=365)
_SKEW: Final = dt.timedelta(hours=1)
"""Certificates are valid from this long before they were issued, for API servers whose clocks are slow."""
_OVERLAP: Final = dt.timedelta(days=1)
"""How long earlier authorities stay trusted: every operator has taken up the new certificate by then."""
_ISSUER: Final = "Baton webhook authority"
_SUBJECT: Final = "Baton webhook"


class CertificateError(ValueError):
    """A certificate or its key cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A serving certificate with its chain, its private key, and the authority that signed it, each as PEM.

    The authority is empty where others take care that it is trusted.
    """

    certificate: str
    key: str = field(repr=False)
    authority: str = ""


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """Return the names of a Service; the API server asks for the third."""
    whole = f"{service}.{namespace}.svc"
    return service, f"{service}.{namespace}", whole, f"{whole}.cluster.local"


def issue(names: Sequence[str], *, now: dt.datetime, validity: dt.timedelta = _VALIDITY) -> Certificate:
    """Return a certificate for these DNS names, with an authority of its own.

    Nobody keeps the authority's key, so it can sign nothing else.
    """
    period = (now - _SKEW, now + validity)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = (
        _draft(_ISSUER, authority_key.public_key(), period=period)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _draft(_SUBJECT, key.public_key(), period=period)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return Certificate(
        certificate=_pem(certificate),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        authority=_pem(authority),
    )


def reason_to_issue(present: Certificate, *, names: Sequence[str], now: dt.datetime) -> str:
    """Say why a certificate of `issue` must be replaced, in words that follow "the certificate"; empty if it is good.

    It is renewed when less than a third of its validity is left.
    """
    if not present.certificate:
        return "is missing"
    try:
        leaf = _read(present)
        (authority,) = x509.load_pem_x509_certificates(present.authority.encode())
        leaf.verify_directly_issued_by(authority)
        known = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        return f"cannot be used: {error}"
    except InvalidSignature:
        return "was signed by another authority"
    missing = set(names).difference(known.get_values_for_type(x509.DNSName))
    if missing:
        return f"is not for {', '.join(sorted(missing))}"
    left = leaf.not_valid_after_utc - now
    if left * 3 < leaf.not_valid_after_utc - leaf.not_valid_before_utc - _SKEW:
        return f"ends at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def expiry(certificate: Certificate) -> dt.datetime:
    """Return until when a certificate is valid.

    Raises:
        CertificateError: it or its key cannot be read, or they don't belong together.

    """
    try:
        return _read(certificate).not_valid_after_utc
    except ValueError as error:
        raise CertificateError(str(error)) from error


def trusted(certificate: Certificate, present: str, *, now: dt.datetime) -> str:
    """Return the authorities to trust as PEM, that of the certificate first; `present` are those trusted so far.

    Others stay until a day after the certificate was issued: until then some operator may still serve an earlier one.
    """
    own = x509.load_pem_x509_certificate(certificate.authority.encode())
    if now >= own.not_valid_before_utc + _SKEW + _OVERLAP:
        return _pem(own)
    others = [other for other in _authorities(present) if other != own and other.not_valid_after_utc > now]
    return "".join(_pem(authority) for authority in (own, *others))


def _authorities(text: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return []


def _read(certificate: Certificate) -> x509.Certificate:
    """Return the first certificate of the chain. Raises ValueError if it cannot be read, or the key is not its own."""
    try:
        leaf = x509.load_pem_x509_certificate(certificate.certificate.encode())
    except ValueError as error:
        raise ValueError("the certificate is no PEM certificate") from error
    try:
        key = serialization.load_pem_private_key(certificate.key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
        raise ValueError("the key is no PEM key without a password") from error
    if key.public_key() != leaf.public_key():
        raise ValueError("the key is not that of the certificate")
    return leaf


def _draft(
    name: str, key: ec.EllipticCurvePublicKey, *, period: tuple[dt.datetime, dt.datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(_ISSUER))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(period[0])
        .not_valid_after(period[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
