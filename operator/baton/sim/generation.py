"""One request under way: its tokens so far, and how it goes on and ends. Takes no time and touches no engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from baton.sim.tokens import END_OF_ANSWER, NO_ENDING, Ending, word_text

if TYPE_CHECKING:
    from baton.sim.requests import GenerationRequest
    from baton.sim.tokens import History
    from baton.sim.transfer import Kind
    from baton.sim.transfers import Source


class FinishReason(StrEnum):
    """Why a request ended, as vLLM names it."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(slots=True, eq=False, kw_only=True)
class Generation:
    """A request and what became of it. Times are seconds of the loop's clock.

    Attributes:
        request_id: the engine's own id, by which held KV is pulled.
        source: where a decode finds its KV, or where a prefill's goes.
        history: the prompt and all tokens drawn.
        fingerprint: that of the prompt alone.
        limit: tokens of the longest answer.
        blocks: KV blocks to reserve, and those still reserved once has_blocks is set.
        stop_reason: the stop token that ended the answer, or why it was given up; None for any other end.
        kv_transfer_params: what a finished prefill hands to its decode.
    """

    request: GenerationRequest
    request_id: str
    kind: Kind
    source: Source
    history: History
    fingerprint: str
    limit: int
    blocks: int
    arrived_at: float
    has_blocks: bool = False
    started_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float = 0.0
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    kv_transfer_params: dict[str, Any] | None = None

    @property
    def last_text(self) -> str:
        """The text of the newest token; a token that stops the answer has none."""
        return "" if self.finish_reason is FinishReason.STOP else word_text(self.tokens[-1])

    @property
    def text(self) -> str:
        """The answer so far."""
        if not self.tokens or isinstance(self.stop_reason, str):
            return "".join(map(word_text, self.tokens))
        return "".join(map(word_text, self.tokens[:-1])) + self.last_text

    def give_up(self, finish_reason: FinishReason, stop_reason: str | None) -> None:
        """End the answer where it is, without another token."""
        self.finish_reason, self.stop_reason = finish_reason, stop_reason

    def draw(self, *, eos_rate: float) -> int:
        """Append the next token and return it; the last one sets finish_reason."""
        request = self.request
        number = len(self.tokens) + 1
        may_stop = number > request.min_tokens
        may_end = may_stop and not request.ignore_eos
        ending = Ending(rate=eos_rate, has_natural_length=request.max_tokens is None) if may_end else NO_ENDING
        token = self.history.draw(ending)
        self.tokens.append(token)
        if token == END_OF_ANSWER:
            self.finish_reason = FinishReason.STOP
        elif may_stop and token in request.stop_token_ids:
            self.finish_reason, self.stop_reason = FinishReason.STOP, token
        elif number == self.limit:
            self.finish_reason = FinishReason.LENGTH
        return token
