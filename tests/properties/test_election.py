"""Whatever happens to clocks, processes and messages: at no moment do two processes lead."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hypothesis import example, given, settings
from hypothesis import strategies as st

from baton.kube.election import ABSENT, DEADLINE, Candidacy, Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAMES = ("a", "b", "c")
CLOCKS = st.tuples(st.sampled_from((0.92, 1.0, 1.09)), st.sampled_from((-3e5, 0.0, 1e6)))
"""How fast a process's clock runs, the fastest by less than a fifth faster than the slowest, and what it shows at 0."""


@dataclass
class Server:
    """Holds one Lease; a write names the version it expects."""

    lease: Lease = ABSENT
    version: int = 0

    def write(self, expected: Lease, holder: str) -> Lease | None:
        if expected.version != self.lease.version:
            return None
        self.version += 1
        self.lease = Lease(str(self.version), holder)
        return self.lease


@dataclass
class Process:
    """One process: what it knows, and the call that it waits for, in the order of baton.kube.leadership."""

    server: Server
    candidacy: Candidacy
    rate: float
    offset: float
    call: Callable[[float], None] | None = None
    answer: Callable[[float], None] | None = None
    late: list[Callable[[float], None]] = field(default_factory=list)

    def now(self, time: float) -> float:
        return self.offset + self.rate * time

    def is_leading(self, time: float) -> bool:
        return self.candidacy.is_leading(self.now(time))

    def step(self, time: float) -> None:
        """Do what comes next: begin a call, have it carried out, or take its answer."""
        if self.answer is not None:
            answer, self.answer = self.answer, None
            answer(time)
        elif self.call is not None:
            call, self.call = self.call, None
            call(time)
        elif self.candidacy.lease is None or not self.is_leading(time):
            self.call = self.read
        else:
            self.claim(time)

    def turn(self, time: float) -> None:
        """Do everything that one look and one claim take, in no time."""
        for _ in range(5):
            self.step(time)

    def read(self, time: float) -> None:
        seen = self.server.lease

        def take(later: float) -> None:
            self.candidacy = self.candidacy.saw(seen, at=self.now(later))
            self.claim(later)

        self.answer = take

    def claim(self, time: float) -> None:
        if not self.candidacy.may_claim(self.now(time)):
            return
        sent, expected, bid = self.now(time), self.candidacy.lease, self.candidacy.bid
        assert expected is not None

        def carry_out(_: float) -> None:
            written = self.server.write(expected, bid)
            self.answer = lambda _: self.learn(written, sent)

        self.call = carry_out

    def learn(self, written: Lease | None, sent: float) -> None:
        self.candidacy = self.candidacy.doubting() if written is None else self.candidacy.claimed(written, sent=sent)

    def lose(self, time: float) -> None:
        """Give up waiting; what was on its way to the server may get there later."""
        if self.call is not None and self.call != self.read:
            self.late.append(self.call)
        self.call = self.answer = None
        self.candidacy = self.candidacy.doubting()

    def arrive(self, time: float) -> None:
        """Have a call carried out whose answer nobody waits for."""
        if self.late:
            answer = self.answer
            self.late.pop()(time)
            self.answer = answer

    def release(self, time: float) -> None:
        if self.call is None and self.answer is None:
            self.candidacy = self.candidacy.resigned()
            if self.server.lease.holder == self.candidacy.identity:
                self.server.write(self.server.lease, "")

    def restart(self, time: float) -> None:
        """Go on as a new process, without a memory."""
        self.lose(time)
        self.candidacy = Candidacy(f"{self.candidacy.identity}'")


def remove(server: Server) -> None:
    server.lease = ABSENT


ACTIONS = ("turn",) * 6 + ("step",) * 3 + ("lose", "arrive", "release", "restart", "remove")
SCRIPTS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(ACTIONS), st.sampled_from((0.0, 0.5, 2.0, 6.0, 12.0))),
    max_size=30,
)


def leaders_of(
    script: Sequence[tuple[str, str, float]], clocks: Sequence[tuple[float, float]], deadline: float
) -> list[int]:
    """Play a script; return how many processes led after each of its actions."""
    server = Server(Lease("0"))
    processes = {
        name: Process(server, replace(Candidacy(name), deadline=deadline), rate, offset)
        for name, (rate, offset) in zip(NAMES, clocks, strict=True)
    }
    time, counts = 0.0, []
    for name, action, passing in script:
        time += passing
        if action == "remove":
            remove(server)
        else:
            getattr(processes[name], action)(time)
        counts.append(sum(process.is_leading(time) for process in processes.values()))
    return counts


DELETED_UNSEEN = [
    ("a", "remove", 0.0),
    ("c", "turn", 0.0),
    ("a", "turn", 0.0),
    ("a", "turn", 2.0),
    ("a", "turn", 12.0),
    ("a", "remove", 0.0),
    ("c", "turn", 0.0),
]
"""The Lease is made, led by, and deleted between two looks of another process, to which it was missing all the time."""


@settings(max_examples=1000)
@given(SCRIPTS, st.tuples(CLOCKS, CLOCKS, CLOCKS))
@example(DELETED_UNSEEN, ((0.92, 0.0),) * 3)
def test_two_processes_never_lead_at_once(
    script: Sequence[tuple[str, str, float]], clocks: Sequence[tuple[float, float]]
) -> None:
    assert max(leaders_of(script, clocks, DEADLINE), default=0) <= 1


def test_the_simulation_would_notice_two_leaders() -> None:
    script = [("a", "turn", 0.0), *[("b", "turn", 6.0)] * 4]
    clocks = [(1.0, 0.0)] * 3

    assert max(leaders_of(script, clocks, DEADLINE)) == 1
    assert max(leaders_of(script, clocks, 1000.0)) == 2
