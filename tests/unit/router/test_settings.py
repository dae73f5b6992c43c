from __future__ import annotations

from pathlib import Path

import pytest

from baton.router.settings import RouterSettings


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"config": Path("f"), "kubeconfig": "k"}, "a configuration file replaces Kubernetes"),
        ({"config": Path("f"), "context": "c"}, "a configuration file replaces Kubernetes"),
        ({"config": Path("f"), "namespaces": ("ns",)}, "a configuration file replaces Kubernetes"),
        ({"tls_key": Path("k")}, "a TLS certificate and its key go together"),
        ({"tls_certificate": Path("c")}, "a TLS certificate and its key go together"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RouterSettings(**fields)  # type: ignore[arg-type] # the fields are data here


def test_the_defaults_are_those_users_of_these_apis_know() -> None:
    settings = RouterSettings()
    assert (settings.port, settings.admin_port, settings.drain_timeout) == (8080, 9090, 300.0)
