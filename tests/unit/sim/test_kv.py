from __future__ import annotations

import pytest

from baton.sim.kv import HeldKV, KVCache, KVError, KVErrorReason


def hold(cache: KVCache, request_id: str, *, blocks: int = 2, now: float = 0.0) -> HeldKV:
    assert cache.reserve(blocks)
    return cache.hold(request_id, fingerprint=f"prompt of {request_id}", blocks=blocks, now=now)


def pull(cache: KVCache, held: HeldKV, *, now: float = 0.0) -> HeldKV:
    return cache.pull(held.request_id, fingerprint=held.fingerprint, block_ids=held.block_ids, now=now)


def refuse(cache: KVCache, held: HeldKV, *, now: float = 0.0) -> KVErrorReason:
    with pytest.raises(KVError) as refusal:
        pull(cache, held, now=now)
    assert held.request_id in str(refusal.value)
    return refusal.value.reason


@pytest.fixture
def cache() -> KVCache:
    return KVCache(capacity=10, timeout=480.0)


def test_blocks_are_reserved_up_to_the_capacity_and_given_back(cache: KVCache) -> None:
    assert cache.reserve(7)
    assert not cache.reserve(4)
    assert cache.used == 7
    cache.release(7)
    assert cache.reserve(10)


def test_held_kv_is_pulled_once(cache: KVCache) -> None:
    held = hold(cache, "a")
    assert (cache.used, cache.held_blocks) == (2, 2)
    assert pull(cache, held) is held
    assert (cache.used, cache.held_blocks, cache.pulled) == (0, 0, 1)
    assert refuse(cache, held) is KVErrorReason.REUSED
    assert cache.pulled == 1


def test_unknown_kv_is_refused(cache: KVCache) -> None:
    assert refuse(cache, HeldKV("a", "prompt", (0,), 0.0)) is KVErrorReason.UNKNOWN


@pytest.mark.parametrize("wrong", [{"fingerprint": "another prompt"}, {"block_ids": (9,)}])
def test_kv_of_another_prompt_is_refused_and_stays_held(cache: KVCache, wrong: dict[str, object]) -> None:
    held = hold(cache, "a")
    named = {"fingerprint": held.fingerprint, "block_ids": held.block_ids, "now": 0.0} | wrong
    with pytest.raises(KVError) as refusal:
        cache.pull("a", **named)  # type: ignore[arg-type] # one of three arguments of different types is replaced
    assert refusal.value.reason is KVErrorReason.MISMATCH
    assert cache.held == (held,)


def test_unfetched_kv_expires_in_the_order_it_was_held(cache: KVCache) -> None:
    first, second = hold(cache, "a", now=10.0), hold(cache, "b", now=20.0)
    assert cache.next_expiry == 490.0
    assert cache.expire(489.9) == []
    assert cache.expire(490.0) == [first]
    assert (cache.used, cache.expired, cache.next_expiry) == (2, 1, 500.0)
    assert cache.expire(1000.0) == [second]
    assert (cache.used, cache.expired) == (0, 2)
    assert cache.next_expiry is None


def test_expired_kv_is_refused_even_before_anything_expired_it(cache: KVCache) -> None:
    held = hold(cache, "a")
    assert refuse(cache, held, now=480.0) is KVErrorReason.EXPIRED
    assert (cache.used, cache.expired, cache.pulled) == (0, 1, 0)


def test_block_ids_are_distinct_while_held(cache: KVCache) -> None:
    blocks = [block for name in "abcde" for block in hold(cache, name).block_ids]
    assert sorted(blocks) == list(range(10))
