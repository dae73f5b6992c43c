"""One client's stream across the engines that it comes from: its journal, and what follows when one fails.

Decides how to go on by baton.router.replay; sends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.router.client_body import IDS_WANTED, ask_for_token_ids
from baton.router.errors import ApiError
from baton.router.journal import Journal
from baton.router.replay import Ending, Impossible, Replay, plan_replay
from baton.router.transcript import read_transcript
from baton.router.wire.failures import FailureKind

if TYPE_CHECKING:
    from baton.router.client_body import ClientBody
    from baton.router.data_path_settings import DataPathSettings

_LONGEST_PROMPT = 256 * 1024
"""Bytes of a request with which token ids are asked for: those of the prompt come back in the first event."""


class Replayer:
    """The journal of one stream, and the request for whatever is missing from it."""

    def __init__(self, body: ClientBody, settings: DataPathSettings, *, is_chat: bool) -> None:
        asks = settings.asks_for_token_ids and not body.fields.get(IDS_WANTED) and len(body.raw) <= _LONGEST_PROMPT
        self.body = ask_for_token_ids(body) if asks else body
        self.journal = Journal(limit=settings.max_journal_bytes, hides_token_ids=asks)
        self._is_chat = is_chat
        self._may_repeat = True

    def go_on(self, failure: FailureKind) -> Replay | Ending | ApiError:
        """Return the request that goes on after what the client has, and expect its answer; or what is missing."""
        if failure is FailureKind.DIVERGED:
            self._may_repeat = False
        stream = self.journal.read()
        if stream is None:
            return _impossible("it is longer than the router keeps")
        transcript = read_transcript(stream)
        plan = plan_replay(self.body, transcript, is_chat=self._is_chat, may_repeat=self._may_repeat)
        if isinstance(plan, Impossible):
            return _impossible(plan.reason)
        if isinstance(plan, Replay):
            self.journal.begin_try(plan.splice)
        return plan


def _impossible(reason: str) -> ApiError:
    return ApiError(502, "replay_impossible", f"The answer cannot go on exactly: {reason}.")
