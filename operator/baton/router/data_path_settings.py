"""The limits and times of the data path. Reads no environment and no file: baton.router.settings does."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class DataPathSettings:
    """Sizes are bytes, times are seconds.

    Clients: `max_connections` on one listener; `max_head_bytes` of target, headers and trailers (32 more a line);
    `max_body_bytes` of a request's body; `head_time` and `body_time` from the first byte of each to its last;
    `idle_time` between requests, longer than the 60 s of common load balancers; `write_time` that a client may take
    nothing of its answer.

    Engines: `max_endpoint_connections` and `max_idle_connections` to each endpoint; `keep_time` of an idle connection,
    shorter than the 5 s after which vLLM closes them (VLLM_HTTP_TIMEOUT_KEEP_ALIVE); `connect_time` to open one;
    `max_answer_bytes` of an answer that is kept whole: prefill's, and one that is not streamed (a larger one is passed
    on in pieces).

    Requests: `first_byte_time` until the first byte of a streamed answer, all tries together, and `answer_time` until
    a whole one that is not streamed, where the backend has no timeout of its own; `prefill_time` of one prefill;
    `stall_time` between two bytes of an answer; `hand_over_time` from prefill's answer to the first streamed byte of
    decode's, well below the 480 s after which prefill frees the KV that decode has yet to pull
    (VLLM_*_ABORT_REQUEST_TIMEOUT); `reclaim_time` of a call that only frees such KV; `callback_time` until a decode
    that is asked first (mooncake-layerwise) has blocks and calls back for its prefill: the engine itself would wait for
    ever.

    Replays of streams that break off: `max_replays` of one stream that got further, or were no fault of the engine's,
    beyond the retries of the backend; `max_journal_bytes` kept of each, packed to about a
    tenth; `asks_for_token_ids` makes engines tell token ids, which `return_token_ids` of vLLM does: the exact way.

    Endpoints: `eject_after` failures in a row (0: never) an endpoint is left out for `eject_time`, then probed with
    one request at a time, and left out twice as long, up to `longest_ejection`, whenever a probe fails.

    `retry_after` is what a client is told to wait when no endpoint is ready or all are busy. `names_endpoints` adds the
    response headers `x-baton-prefill` and `x-baton-decode`. `has_public_metrics` serves `/metrics` to clients too, not
    only on the admin listener. `drain_notice` is how long the router goes on accepting connections once it has turned
    unready; about 5 behind a Kubernetes Service, whose clients hear of it late.
    """

    max_connections: int = 10_000
    max_head_bytes: int = 64 * KIB
    max_body_bytes: int = 64 * MIB
    head_time: float = 10.0
    body_time: float = 120.0
    idle_time: float = 75.0
    write_time: float = 60.0

    max_endpoint_connections: int = 1024
    max_idle_connections: int = 256
    keep_time: float = 4.0
    connect_time: float = 5.0
    max_answer_bytes: int = 16 * MIB

    first_byte_time: float = 300.0
    answer_time: float = 3600.0
    prefill_time: float = 240.0
    stall_time: float = 120.0
    hand_over_time: float = 240.0
    reclaim_time: float = 30.0
    callback_time: float = 120.0

    max_replays: int = 64
    max_journal_bytes: int = MIB
    asks_for_token_ids: bool = True

    eject_after: int = 3
    eject_time: float = 5.0
    longest_ejection: float = 60.0

    retry_after: int = 5
    names_endpoints: bool = True
    has_public_metrics: bool = True
    drain_notice: float = 0.0
