from __future__ import annotations

import pytest

from baton.router.errors import ApiError
from baton.router.paths import ADMIN_PATHS, PUBLIC_PATHS, PUBLIC_PATHS_WITH_METRICS, Action, resolve


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("POST", "/v1/chat/completions", Action.GENERATE),
        ("POST", "/v1/completions", Action.GENERATE),
        ("POST", "/v1/embeddings", Action.FORWARD),
        ("POST", "/tokenize", Action.FORWARD),
        ("POST", "/v2/rerank", Action.FORWARD),
        ("GET", "/v1/models", Action.MODELS),
        ("HEAD", "/healthz", Action.HEALTH),
        ("GET", "/readyz", Action.READY),
    ],
)
def test_what_clients_may_ask(method: str, path: str, action: Action) -> None:
    assert resolve(method, path, paths=PUBLIC_PATHS) is action


@pytest.mark.parametrize("path", ["/", "/metrics", "/v2/x", "/v1", "/healthz/"])
def test_other_paths_are_unknown(path: str) -> None:
    error = resolve("POST", path, paths=PUBLIC_PATHS)

    assert isinstance(error, ApiError)
    assert (error.status, error.code) == (404, "unknown_path")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", b"POST"),
        ("DELETE", "/v1/embeddings", b"POST"),
        ("POST", "/v1/models", b"GET, HEAD"),
        ("POST", "/healthz", b"GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: bytes) -> None:
    error = resolve(method, path, paths=PUBLIC_PATHS)

    assert isinstance(error, ApiError)
    assert error.status == 405
    assert error.headers == ((b"allow", allowed),)


def test_metrics_are_public_only_where_they_are_meant_to_be() -> None:
    assert resolve("GET", "/metrics", paths=ADMIN_PATHS) is Action.METRICS
    assert resolve("GET", "/metrics", paths=PUBLIC_PATHS_WITH_METRICS) is Action.METRICS


def test_the_admin_listener_serves_no_models() -> None:
    assert isinstance(resolve("POST", "/v1/embeddings", paths=ADMIN_PATHS), ApiError)
