from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baton.manager.settings import OperatorSettings

KEPT = {
    "webhook_namespace": "baton",
    "webhook_secret": "tls",
    "webhook_service": "webhook",
    "webhook_configuration": "baton",
}
FILES = {"webhook_certificate": Path("/tls")}


@pytest.mark.parametrize("given", [{}, {"webhook_port": 9443, **FILES}, {"webhook_port": 9443, **KEPT}])
def test_settings_that_fit_together_are_taken(given: dict[str, Any]) -> None:
    settings = OperatorSettings(**given)
    assert settings.webhook_port == given.get("webhook_port", 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lease": "operator"}, "--lease operator: write NAMESPACE/NAME"),
        (FILES, "needs --webhook-port"),
        ({"webhook_secret": "tls"}, "needs --webhook-port"),
        ({"webhook_port": 9443}, "--webhook-port needs --webhook-namespace, .*, or --webhook-certificate alone"),
        ({"webhook_port": 9443, **KEPT, "webhook_secret": ""}, "--webhook-port needs --webhook-secret$"),
        ({"webhook_port": 9443, **KEPT, **FILES}, "--webhook-certificate replaces"),
    ],
)
def test_settings_that_contradict_each_other_name_the_options(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OperatorSettings(**given)


def test_a_lease_has_a_namespace_and_a_name() -> None:
    assert OperatorSettings(lease="baton-system/operator").lease_key == ("baton-system", "operator")
