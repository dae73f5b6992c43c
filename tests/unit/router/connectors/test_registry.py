from __future__ import annotations

from baton.api.traffic import KVConnectorType
from baton.router.connectors.registry import CONNECTORS


def test_every_kind_of_hand_over_has_its_connector() -> None:
    assert set(CONNECTORS) == set(KVConnectorType)
