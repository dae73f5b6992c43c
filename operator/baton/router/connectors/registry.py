"""Which connector serves which kind of hand-over."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from baton.api.traffic import KVConnectorType
from baton.router.connectors.aggregated import AggregatedConnector
from baton.router.connectors.plain import PlainConnector
from baton.router.connectors.pull import PullConnector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.router.connectors.contract import Connector

AGGREGATED: Connector = AggregatedConnector()

CONNECTORS: Mapping[KVConnectorType, Connector] = MappingProxyType(
    {
        KVConnectorType.HTTP: PlainConnector(),
        KVConnectorType.LMCACHE: PlainConnector(),
        KVConnectorType.MOONCAKE: PullConnector(),
        KVConnectorType.NIXL: PullConnector(),
    }
)
