from __future__ import annotations

import pytest

from baton.rendering.rules import ports
from rendering_builders import pair, problems

PREFILL = "spec.template.roles[0].engine"
CASES = {
    "port-range": (
        {"kvTransfer": {"port": 65534}},
        [
            (
                f"error: {PREFILL}.kvTransfer.port: the kv ports 65534-65537 (4 of them) go beyond 65535; choose a "
                "lower first port"
            )
        ],
    ),
    "port-overlap": (
        {"ports": {"dataParallelRpc": 7101}},
        [
            (
                f"error: {PREFILL}.ports.dataParallelRpc: the rpc ports 7101-7101 overlap the api ports 7100-7101 of "
                "the same pod; move one of them"
            )
        ],
    ),
    "reserved-ports": (
        {"kvTransfer": {"port": 21600}},
        [
            (
                f"warning: {PREFILL}.kvTransfer.port: the kv ports from 21600 on reach into 20000-21600, where "
                "Mooncake opens ports at random; choose other ports"
            )
        ],
    ),
    "ephemeral-ports": (
        {"kvTransfer": {"port": 32766}},
        [
            (
                f"warning: {PREFILL}.kvTransfer.port: the kv ports from 32766 on reach into 32768-60999, which "
                "outgoing connections may take at any time; choose ports below 32768"
            )
        ],
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_says_what_is_wrong_and_how_to_mend_it(rule: str) -> None:
    engine, messages = CASES[rule]

    assert problems(pair(prefill=engine), ports.RULES) == messages


def test_every_rule_has_its_case() -> None:
    assert {rule.id for rule in ports.RULES} == set(CASES)


def test_neighbouring_ports_are_right() -> None:
    assert problems(pair(prefill={"ports": {"dataParallelRpc": 7102}, "kvTransfer": {"port": 7103}}), ports.RULES) == []
