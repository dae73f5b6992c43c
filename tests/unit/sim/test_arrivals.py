from __future__ import annotations

from dataclasses import replace

import pytest

from baton.sim.arrivals import Arrivals
from baton.sim.kv import KVError, KVErrorReason
from baton.sim.layerwise import Push
from baton.sim.transfer import TransferSide

SIDE = TransferSide(engine_id="d", host="127.0.0.2", port=1, terms={"decode.tp_size": 1})
PUSH = Push("d", "chatcmpl-a", (1, 2), "prompt", {"decode.tp_size": 1})


async def test_kv_that_arrives_is_noticed_once() -> None:
    arrivals = Arrivals(SIDE)
    with arrivals.expect("chatcmpl-a", block_ids=(1, 2), fingerprint="prompt") as done:
        arrivals.take(PUSH)
        arrivals.take(PUSH)
        await done
    assert arrivals.received == 1


@pytest.mark.parametrize("wrong", [replace(PUSH, request_id="cmpl-a-0"), replace(PUSH, engine_id="other")])
async def test_kv_that_nobody_waits_for_is_refused_and_the_request_goes_on_waiting(wrong: Push) -> None:
    arrivals = Arrivals(SIDE)
    with arrivals.expect("chatcmpl-a", block_ids=(1, 2), fingerprint="prompt") as done:
        with pytest.raises(KVError) as refused:
            arrivals.take(wrong)
        assert not done.done()
    assert refused.value.reason is KVErrorReason.UNKNOWN


@pytest.mark.parametrize("wrong", [Push("d", "chatcmpl-a", (1,), "prompt", PUSH.terms), replace(PUSH, fingerprint="x")])
async def test_kv_that_is_not_what_was_asked_for_fails_both(wrong: Push) -> None:
    arrivals = Arrivals(SIDE)
    with arrivals.expect("chatcmpl-a", block_ids=(1, 2), fingerprint="prompt") as done:
        for given in (wrong, replace(PUSH, terms={"decode.tp_size": 2})):
            with pytest.raises(KVError) as refused:
                arrivals.take(given)
            assert refused.value.reason is KVErrorReason.MISMATCH
        with pytest.raises(KVError):
            await done


async def test_two_requests_cannot_wait_under_one_id() -> None:
    arrivals = Arrivals(SIDE)
    with (
        arrivals.expect("chatcmpl-a", block_ids=(1,), fingerprint="p"),
        pytest.raises(KVError, match="id of its own"),
        arrivals.expect("chatcmpl-a", block_ids=(2,), fingerprint="p"),
    ):
        pass
    with pytest.raises(KVError, match="nobody waits"):
        arrivals.take(PUSH)
