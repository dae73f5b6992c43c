from __future__ import annotations

from baton.kube.election import ABSENT, DEADLINE, DURATION, NOBODY, Candidacy, Lease

ME, RIVAL = "me", "rival"
RELEASED = Lease("1")
THEIRS = Lease("2", RIVAL)


def test_nothing_is_claimed_before_the_lease_was_seen() -> None:
    assert not Candidacy(ME).may_claim(0.0)
    assert not Candidacy(ME).is_leading(0.0)


def test_a_lease_without_a_holder_is_taken_at_once() -> None:
    assert Candidacy(ME).saw(RELEASED, at=5.0).may_claim(5.0)


def test_a_lease_of_another_is_taken_when_it_has_not_changed_for_its_duration() -> None:
    candidacy = Candidacy(ME).saw(THEIRS, at=100.0).saw(THEIRS, at=111.0)

    assert not candidacy.may_claim(100.0 + DURATION)
    assert candidacy.may_claim(100.1 + DURATION)


def test_a_renewal_begins_the_wait_anew() -> None:
    candidacy = Candidacy(ME).saw(THEIRS, at=0.0).saw(Lease("3", RIVAL), at=11.0)

    assert not candidacy.may_claim(20.0)


def test_who_holds_it_longer_is_waited_for_longer() -> None:
    candidacy = Candidacy(ME).saw(Lease("2", RIVAL, duration=60.0), at=0.0)

    assert not candidacy.may_claim(60.0)
    assert candidacy.may_claim(60.1)


def test_who_makes_a_missing_lease_waits_as_it_may_have_been_deleted_under_a_leader() -> None:
    candidacy = Candidacy(ME).saw(ABSENT, at=0.0)
    assert candidacy.may_claim(0.0)
    assert candidacy.bid == NOBODY

    made = Lease("1", NOBODY)
    candidacy = candidacy.claimed(made, sent=0.0).saw(made, at=0.0)
    assert not candidacy.is_leading(0.0)
    assert not candidacy.may_claim(DURATION)
    assert candidacy.may_claim(DURATION + 0.1)
    assert candidacy.bid == ME


def test_a_claim_counts_from_when_it_was_sent() -> None:
    leader = Candidacy(ME).saw(RELEASED, at=0.0).claimed(Lease("2", ME), sent=1.0)

    assert leader.is_leading(0.9 + DEADLINE)
    assert not leader.is_leading(1.0 + DEADLINE)


def test_a_leader_that_sees_another_holder_or_no_lease_ends_at_once() -> None:
    leader = Candidacy(ME).saw(RELEASED, at=0.0).claimed(Lease("2", ME), sent=0.0)

    assert not leader.saw(Lease("3", RIVAL), at=1.0).is_leading(1.0)
    assert not leader.saw(ABSENT, at=1.0).is_leading(1.0)


def test_a_doubtful_claim_is_looked_at_and_neither_ends_nor_extends_the_time() -> None:
    leader = Candidacy(ME).saw(RELEASED, at=0.0).claimed(Lease("2", ME), sent=0.0).doubting()

    assert not leader.may_claim(1.0)
    assert leader.is_leading(7.9)
    seen = leader.saw(Lease("3", ME), at=7.0)
    assert not seen.is_leading(8.0)
    assert seen.may_claim(8.0)


def test_a_lease_that_is_still_ours_is_renewed_even_after_its_time() -> None:
    assert Candidacy(ME).saw(Lease("2", ME), at=0.0).may_claim(1000.0)


def test_who_resigned_does_not_lead() -> None:
    assert not Candidacy(ME).saw(RELEASED, at=0.0).claimed(Lease("2", ME), sent=0.0).resigned().is_leading(0.1)
