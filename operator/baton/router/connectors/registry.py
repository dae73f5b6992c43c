"""Which connector serves which kind of hand-over."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from baton.api.traffic import KVConnectorType
from baton.router.connectors.aggregated import AggregatedConnector
from baton.router.connectors.bootstrap import BootstrapConnector
from baton.router.connectors.fan_out import FanOut
from baton.router.connectors.layerwise import LayerwiseConnector
from baton.router.connectors.plain import PlainConnector
from baton.router.connectors.pull import PullConnector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.router.connectors.contract import Connector

AGGREGATED: Connector = AggregatedConnector()

# One hand-over is for one answer, except where the engines need none.
CONNECTORS: Mapping[KVConnectorType, Connector] = MappingProxyType(
    {
        KVConnectorType.HTTP: PlainConnector(),
        KVConnectorType.LMCACHE: PlainConnector(),
        KVConnectorType.MOONCAKE: FanOut(PullConnector()),
        KVConnectorType.NIXL: FanOut(PullConnector()),
        KVConnectorType.MOONCAKE_LAYERWISE: FanOut(LayerwiseConnector()),
        KVConnectorType.SGLANG: FanOut(BootstrapConnector()),
    }
)
