"""AdmissionReview in, AdmissionReview out: says whether an object may be stored. Does no I/O.

The rules are those of the reconcilers, which refuse the same objects in their status when no webhook was asked. An
object that is being deleted, and a change that leaves the spec alone, pass whatever the spec: status, labels and
finalizers of an object that has become invalid must stay writable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field, ValidationError

from baton.api.admission import check_route, check_server, check_serving
from baton.api.crd import DEFINITIONS
from baton.api.documents import DocumentError, read_document
from baton.api.meta import ApiModel, JsonObject, problems_of
from baton.api.problems import Problem, Severity
from baton.api.route import ModelRoute
from baton.api.server import ModelServer
from baton.api.serving import ModelServing
from baton.rendering import check_engines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.api.meta import Kind

_API_VERSION: Final = "admission.k8s.io/v1"
_KINDS: Final = frozenset(definition.kind for definition in DEFINITIONS)
_WARNING_LIMIT: Final = 256
"""Characters of a warning that reach the user; the API server cuts longer ones (KEP-1693)."""


class ReviewError(ValueError):
    """What came in is no AdmissionReview; the message names the field."""


class _GroupKind(ApiModel):
    group: str = ""
    kind: str = ""


class _Request(ApiModel):
    uid: str = Field(min_length=1)
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    kind: _GroupKind
    name: str = ""
    object: JsonObject | None = None
    old_object: JsonObject | None = None


class _Review(ApiModel):
    api_version: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: _Request


def answer(review: Any) -> JsonObject:
    """Return the AdmissionReview that answers this one.

    Raises:
        ReviewError: it is none of version v1.

    """
    try:
        request = _Review.model_validate(review, by_alias=True, by_name=False).request
    except ValidationError as error:
        raise ReviewError("; ".join(problems_of(error))) from error
    return {"apiVersion": _API_VERSION, "kind": "AdmissionReview", "response": _response(request, _judge(request))}


def _judge(request: _Request) -> Sequence[Problem]:
    new, old = request.object, request.old_object
    if request.operation not in {"CREATE", "UPDATE"} or new is None or _is_leaving(new):
        return []
    if request.kind.kind not in _KINDS:
        message = f"{request.kind.kind!r} is not checked by Baton; take it out of the ValidatingWebhookConfiguration"
        return [Problem("kind", message, Severity.WARNING)]
    if old is not None and new.get("spec") == old.get("spec"):
        return []
    try:
        return _check(read_document(new), _readable(old))
    except DocumentError as error:
        return error.problems


def _is_leaving(document: JsonObject) -> bool:
    metadata = document.get("metadata")
    return isinstance(metadata, dict) and bool(metadata.get("deletionTimestamp"))


def _readable(document: JsonObject | None) -> Kind | None:
    """Read what is replaced. One that cannot be read, which no webhook saw, has nothing that must not change."""
    try:
        return None if document is None else read_document(document)
    except DocumentError:
        return None


def _check(new: Kind, old: Kind | None) -> Sequence[Problem]:
    match new:
        case ModelServing():
            problems = check_serving(new, old if isinstance(old, ModelServing) else None)
            return problems if _errors(problems) else [*problems, *check_engines(new)]
        case ModelRoute():
            return check_route(new, old if isinstance(old, ModelRoute) else None)
        case ModelServer():
            return check_server(new)
        case _:
            return []


def _errors(problems: Sequence[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity is Severity.ERROR]


def _response(request: _Request, problems: Sequence[Problem]) -> JsonObject:
    errors = _errors(problems)
    response: JsonObject = {"uid": request.uid, "allowed": not errors}
    if errors:
        response["status"] = _status(request, errors)
    warnings = [_warning(problem) for problem in problems if problem.severity is Severity.WARNING]
    if warnings:
        response["warnings"] = warnings
    return response


def _status(request: _Request, errors: Sequence[Problem]) -> JsonObject:
    """Return the Status that the API server passes on: the message for people, the causes for kubectl and programs."""
    lines = "".join(f"\n  - {error}" for error in errors)
    causes = [{"reason": "FieldValueInvalid", "field": error.path, "message": error.message} for error in errors]
    return {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": f"validation failed:{lines}",
        "details": {**request.kind.document(), "name": request.name, "causes": causes},
    }


def _warning(problem: Problem) -> str:
    text = " ".join(str(problem).split())  # the API server drops warnings that hold control characters
    return text if len(text) <= _WARNING_LIMIT else text[: _WARNING_LIMIT - 1] + "…"
