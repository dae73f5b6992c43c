"""One request's story: facts → match → choice → connector → answer, and further tries when an engine fails.

A stream that breaks off goes on with a further try; baton.router.replayer knows with which request.

Keeps no account beyond the record it is given: the handler does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from baton.router.booking import Booking
from baton.router.call import Call, UpstreamError
from baton.router.client_body import parse_body
from baton.router.connectors.registry import AGGREGATED, CONNECTORS
from baton.router.errors import JSON, SHOWN, ApiError, render_error
from baton.router.form_body import is_form, parse_form
from baton.router.relay import Relay
from baton.router.replay import Ending
from baton.router.replayer import Replayer
from baton.router.substitution import rename_model
from baton.router.tries import Failures, error_after
from baton.routing.types import RequestFacts
from baton.telemetry import router_metrics

if TYPE_CHECKING:
    from baton.router.client_body import ClientBody
    from baton.router.connectors.contract import Connector
    from baton.router.data_path_settings import DataPathSettings
    from baton.router.directory import Directory
    from baton.router.metaserver import Metaserver
    from baton.router.reclaim import Reclaimer
    from baton.router.record import RequestRecord
    from baton.router.wire.client_response import ClientResponse
    from baton.router.wire.messages import Header, Request
    from baton.router.wire.pool import ConnectionPool
    from baton.routing.types import Choice, Match

_CHAT = "/chat/completions"


@dataclass(frozen=True, slots=True)
class Services:
    """What every request uses."""

    settings: DataPathSettings
    directory: Directory
    pool: ConnectionPool
    reclaimer: Reclaimer
    metaserver: Metaserver


class Story:
    """One request. `tell` it, then `end` it when it has not ended by itself."""

    def __init__(
        self,
        services: Services,
        request: Request,
        response: ClientResponse,
        record: RequestRecord,
        *,
        is_generation: bool,
    ) -> None:
        """Only a completion (`is_generation`) can go through prefill and decode."""
        self._settings = services.settings
        self._directory = services.directory
        self._pool = services.pool
        self._reclaimer = services.reclaimer
        self._metaserver = services.metaserver
        self._request = request
        self._response = response
        self._record = record
        self._is_generation = is_generation
        self._relay: Relay | None = None

    async def tell(self) -> ApiError | None:
        """Have the request answered, or return why it was not."""
        body = self._read_body()
        if isinstance(body, ApiError):
            return body
        self._record.model = body.model
        match = self._directory.match(_facts(self._request, body))
        if match is None:
            message = f"The model '{body.model[:SHOWN]}' does not exist, or no route takes this request for it."
            return ApiError(404, "model_not_found", message, param="model")
        self._record.match = match
        return await self._try_until_answered(match, body)

    def end(self, error: ApiError) -> None:
        """Answer with an error, or, when an answer has been begun, break it off with it."""
        self._record.reason = error.code
        self._record.error = error.message
        if self._response.is_ended:
            return
        if not self._response.is_started:
            headers = [JSON, *self._own_headers(None), *error.headers]
            self._response.send(error.status, headers, render_error(error))
        elif self._relay is not None:
            self._relay.break_off(error)

    def _read_body(self) -> ClientBody | ApiError:
        content_type = self._request.header(b"content-type") or b""
        if is_form(content_type) and not self._is_generation:
            return parse_form(self._request.body, content_type)
        return parse_body(self._request.body)

    async def _try_until_answered(self, match: Match, body: ClientBody) -> ApiError | None:
        replayer = None
        if self._is_generation and body.is_streamed:
            replayer = Replayer(body, self._settings, is_chat=self._request.path.endswith(_CHAT))
        first_call = call = self._call(match, body if replayer is None else replayer.body)
        failures = Failures(match.backend.retry, most=self._settings.max_replays)
        while True:
            choice = self._choose(match, failures)
            if choice is None:
                return self._unavailable(match) if failures.last is None else self._error(failures.last)
            connector = self._connector(match, choice, body)
            if isinstance(connector, ApiError):
                return connector
            failure = await self._try(call, connector, choice, replayer)
            if failure is None:
                return None
            pause = failures.pause_after(failure, sent=self._response.sent, now=_now(), deadline=call.deadline)
            if pause is None:
                return self._error(failure)
            going_on = self._go_on(first_call, failure, replayer)
            if not isinstance(going_on, Call):
                return going_on
            call = going_on
            await asyncio.sleep(pause)

    async def _try(
        self, call: Call, connector: Connector, choice: Choice, replayer: Replayer | None
    ) -> UpstreamError | None:
        record, backend = self._record, call.match.backend.name
        record.choice = choice
        record.attempts += 1
        booking = Booking(self._directory, choice, body_bytes=len(self._request.body))
        relay = self._relay = Relay(
            self._response,
            headers=self._own_headers(choice),
            keep_bytes=self._settings.max_answer_bytes,
            is_generation=self._is_generation,
            on_first_byte=lambda: self._notice_first_byte(booking),
            journal=None if replayer is None else replayer.journal,
        )
        try:
            sink = rename_model(relay, known_as=call.model, asked_for=call.body.model)
            await connector.serve(call, choice, sink)
        except UpstreamError as failure:
            router_metrics.upstream_errors(backend, failure.endpoint.phase.value, failure.kind.value).inc()
            router_metrics.tries(backend, "failed").inc()
            return failure
        finally:
            booking.release()
        router_metrics.tries(backend, "ok").inc()
        record.prompt_tokens, record.completion_tokens = relay.token_counts()
        if self._response.status >= 400:
            record.reason = "engine_refused"
        return None

    def _go_on(self, call: Call, failure: UpstreamError, replayer: Replayer | None) -> Call | ApiError | None:
        """Return the call that brings what is missing: everything, as long as the client has nothing.

        None when nothing was missing but the end.
        """
        if replayer is None:
            return self._error(failure) if self._response.is_started else call
        if not self._response.is_started:
            replayer.journal.begin_try(None)
            return call
        plan = replayer.go_on(failure.kind)
        if isinstance(plan, ApiError):
            return replace(plan, message=f"{self._error(failure).message} {plan.message}")
        if isinstance(plan, Ending):
            self._response.write(plan.events)
            self._response.end()
            return None
        self._record.replays.append(f"{failure.kind.value} by {plan.way}")
        router_metrics.replays(call.match.backend.name, failure.kind.value).inc()
        deadline = _now() + self._time_limit(call.match, call.body)
        return call.going_on_with(plan.body, path=plan.path, deadline=deadline)

    def _notice_first_byte(self, booking: Booking) -> None:
        booking.release_prefill()
        if self._record.first_byte is None:
            self._record.first_byte = _now()

    def _call(self, match: Match, body: ClientBody) -> Call:
        return Call(
            self._request,
            body,
            match=match,
            request_id=self._record.request_id,
            deadline=_now() + self._time_limit(match, body),
            pool=self._pool,
            settings=self._settings,
            reclaimer=self._reclaimer,
            directory=self._directory,
            metaserver=self._metaserver,
        )

    def _time_limit(self, match: Match, body: ClientBody) -> float:
        settings = self._settings
        return match.backend.timeout or (settings.first_byte_time if body.is_streamed else settings.answer_time)

    def _choose(self, match: Match, failures: Failures) -> Choice | None:
        for excluded in failures.exclusions():
            choice = self._directory.choose(match, excluded=excluded)
            if choice is not None:
                return choice
        return None

    def _connector(self, match: Match, choice: Choice, body: ClientBody) -> Connector | ApiError:
        if choice.prefill is not None and not self._is_generation:
            path = self._request.path[:SHOWN]
            message = (
                f"{path} needs engines that prefill and decode; those of '{body.model[:SHOWN]}' do one or the other."
            )
            return ApiError(501, "unsupported_by_backend", message)
        connector = AGGREGATED if choice.prefill is None else CONNECTORS[match.backend.connector]
        return connector.refusal(body) or connector

    def _unavailable(self, match: Match) -> ApiError:
        retry_after = (b"retry-after", b"%d" % self._settings.retry_after)
        if self._directory.is_full(match):
            message = f"All endpoints of backend '{match.backend.name}' have as many requests as they may have."
            return ApiError(429, "too_many_requests", message, headers=(retry_after,))
        message = f"No endpoints of backend '{match.backend.name}' are ready."
        return ApiError(503, "no_ready_endpoints", message, headers=(retry_after,))

    def _error(self, failure: UpstreamError) -> ApiError:
        return error_after(failure, tried=self._record.attempts)

    def _own_headers(self, choice: Choice | None) -> list[Header]:
        headers: list[Header] = [(b"x-request-id", self._record.request_id.encode())]
        if choice is not None and self._settings.names_endpoints:
            if choice.prefill is not None:
                headers.append((b"x-baton-prefill", choice.prefill.name.encode()))
            headers.append((b"x-baton-decode", choice.decode.name.encode()))
        return headers


def _now() -> float:
    return asyncio.get_running_loop().time()


def _facts(request: Request, body: ClientBody) -> RequestFacts:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
    return RequestFacts(body.model, request.path, headers)
