"""Which path and method ask for what. Serves nothing."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from baton.router.errors import SHOWN, ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Action(StrEnum):
    """What a request asks for."""

    GENERATE = "generate"
    """A completion, by prefill and decode where the backend has both."""

    FORWARD = "forward"
    """Any other call of a model, for engines that do both."""

    MODELS = "models"
    HEALTH = "health"
    READY = "ready"
    METRICS = "metrics"

    LOADS = "loads"
    """The requests in flight by endpoint."""

    ENGINES = "engines"
    """The list of a standalone router's engines, as the following change it."""

    ADD_ENGINES = "add-engines"
    REMOVE_ENGINES = "remove-engines"
    RESET_PREFIX_CACHES = "reset-prefix-caches"
    COUNT_ENGINES = "count-engines"


_PROBES = {"/healthz": Action.HEALTH, "/readyz": Action.READY}
_METRICS = {"/metrics": Action.METRICS}
_MODELS = {
    "/v1/models": Action.MODELS,
    "/v1/chat/completions": Action.GENERATE,
    "/v1/completions": Action.GENERATE,
}
# Engines serve these at the root too (vLLM and the APIs of Jina and Cohere have them there).
_FORWARDED = dict.fromkeys(
    ("/tokenize", "/detokenize", "/pooling", "/classify", "/score", "/rerank", "/v2/rerank"), Action.FORWARD
)
_POSTED = frozenset(
    {Action.GENERATE, Action.FORWARD, Action.ADD_ENGINES, Action.REMOVE_ENGINES, Action.RESET_PREFIX_CACHES}
)

STANDALONE_PUBLIC_PATHS: Mapping[str, Action] = MappingProxyType({"/healthcheck": Action.COUNT_ENGINES})
# The paths of vllm-ascend's example proxy, besides the list.
STANDALONE_ADMIN_PATHS: Mapping[str, Action] = MappingProxyType(
    {
        **STANDALONE_PUBLIC_PATHS,
        "/instances": Action.ENGINES,
        "/instances/add": Action.ADD_ENGINES,
        "/instances/remove": Action.REMOVE_ENGINES,
        "/reset_prefix_cache": Action.RESET_PREFIX_CACHES,
    }
)
ADMIN_PATHS: Mapping[str, Action] = MappingProxyType(_PROBES | _METRICS | {"/loads": Action.LOADS})
PUBLIC_PATHS: Mapping[str, Action] = MappingProxyType(_PROBES | _MODELS | _FORWARDED)
PUBLIC_PATHS_WITH_METRICS: Mapping[str, Action] = MappingProxyType({**PUBLIC_PATHS, **_METRICS})


def resolve(method: str, path: str, *, paths: Mapping[str, Action]) -> Action | ApiError:
    """Return what a request asks for, or a 404 or 405. With /v1/models, any unknown path below /v1/ is forwarded."""
    action = paths.get(path)
    if action is None and path.startswith("/v1/") and "/v1/models" in paths:
        action = Action.FORWARD
    if action is None:
        hint = (
            " It is on the admin port of a router that was given its engines." if path in STANDALONE_ADMIN_PATHS else ""
        )
        return ApiError(404, "unknown_path", f"There is no {path[:SHOWN]} here.{hint}")
    allowed = ("POST",) if action in _POSTED else ("GET", "HEAD")
    if method not in allowed:
        message = f"{path[:SHOWN]} takes {' or '.join(allowed)}, not {method}."
        return ApiError(405, "wrong_method", message, headers=((b"allow", ", ".join(allowed).encode()),))
    return action
