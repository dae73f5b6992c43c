from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import yaml

from baton.dev.credentials import make_kubeconfig, make_signing_key, make_token, make_token_file, write_secret

if TYPE_CHECKING:
    from pathlib import Path


def test_tokens_are_long_and_never_the_same() -> None:
    first, second = make_token(), make_token()
    assert first != second
    assert len(first) >= 32


def test_the_tokens_holder_is_an_administrator() -> None:
    assert make_token_file("secret") == 'secret,admin,admin,"system:masters"\n'


def test_a_signing_key_is_a_sec1_key_on_p256() -> None:
    lines = make_signing_key().splitlines()
    assert (lines[0], lines[-1]) == ("-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----")
    document = base64.b64decode("".join(lines[1:-1]))
    # A sequence of exactly the rest, version 1, 32 bytes of key, the name of the curve.
    assert document[1] == len(document) - 2
    assert document[2:7] == bytes.fromhex("0201010420")
    assert document[-8:] == bytes.fromhex("2a8648ce3d030107")
    assert int.from_bytes(document[7:39], "big") > 0


def test_signing_keys_differ() -> None:
    assert make_signing_key() != make_signing_key()


def test_the_kubeconfig_names_server_trust_and_token() -> None:
    text = make_kubeconfig(name="demo", server="https://127.0.0.1:6443", certificate="PEM", token="secret")
    document = yaml.safe_load(text)
    assert document["current-context"] == document["contexts"][0]["name"] == "baton-demo"
    assert document["clusters"][0]["cluster"] == {
        "server": "https://127.0.0.1:6443",
        "certificate-authority-data": base64.b64encode(b"PEM").decode(),
    }
    assert document["users"][0]["user"] == {"token": "secret"}


def test_a_secret_is_for_its_owner_only_even_when_it_replaces_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("old")
    path.chmod(0o644)
    write_secret(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
