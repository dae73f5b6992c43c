"""Make the secrets of one local control plane: the admin's token, the service account key, the kubeconfig.

The server's certificate is not made here: kube-apiserver makes its own.
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# The order of the curve P-256 (FIPS 186-4, D.1.2.3); a private key is a number from 1 up to, not including, this.
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# An ECPrivateKey (RFC 5915) is these bytes, the key's 32 bytes, and the curve's name. The public key is optional.
_KEY_HEAD = bytes.fromhex("30310201010420")
_KEY_CURVE = bytes.fromhex("a00a06082a8648ce3d030107")


def make_token() -> str:
    """Return a new bearer token."""
    return secrets.token_urlsafe(32)


def make_token_file(token: str) -> str:
    """Return a static token file (CSV) that makes the token's holder an administrator."""
    return f'{token},admin,admin,"system:masters"\n'


def make_signing_key() -> str:
    """Return a new private key on P-256 as PEM, with which the API server signs the tokens of service accounts."""
    key = secrets.randbelow(_P256_ORDER - 1) + 1
    encoded = base64.encodebytes(_KEY_HEAD + key.to_bytes(32, "big") + _KEY_CURVE).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{encoded}-----END EC PRIVATE KEY-----\n"


def make_kubeconfig(*, name: str, server: str, certificate: str, token: str) -> str:
    """Return a kubeconfig (JSON, which is YAML) for the administrator. `certificate` is the server's CA as PEM."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(certificate.encode()).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": f"baton-{name}",
        "clusters": [{"name": f"baton-{name}", "cluster": cluster}],
        "contexts": [{"name": f"baton-{name}", "context": {"cluster": f"baton-{name}", "user": f"baton-{name}"}}],
        "users": [{"name": f"baton-{name}", "user": {"token": token}}],
    }
    return json.dumps(document, indent=2) + "\n"


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, replacing what was there in one step."""
    draft = path.with_name(f".{path.name}.draft")
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)
