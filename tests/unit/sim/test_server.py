from __future__ import annotations

from baton.sim.server import SimServer
from baton.sim.settings import SimSettings


def test_each_address_and_port_is_an_engine_made_on_first_use() -> None:
    server = SimServer(SimSettings())
    assert server.engines == {}
    engine = server.engine("127.64.0.1", 7100)
    assert server.engine("127.64.0.1", 7100) is engine
    assert server.engine("127.64.0.1", 7101) is not engine
    assert server.engine("127.64.0.2", 7100).side.engine_id != engine.side.engine_id
    assert len(server.engines) == 3


def test_an_engine_has_a_url() -> None:
    server = SimServer(SimSettings())
    assert server.url("127.64.0.1", 7100) == "http://127.64.0.1:7100"
    assert server.url("fd00::1", 7100) == "http://[fd00::1]:7100"
