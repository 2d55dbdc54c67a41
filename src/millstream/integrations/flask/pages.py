"""The pages that start a task, and tell how tasks stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from millstream.compat import Task, states
from millstream.errors import InvalidInputError, WorkflowResourceError, WorkflowServiceUnavailableError
from millstream.integrations.flask.celery import FlaskCelery

_WITHOUT_RESULT = (states.PENDING, states.STARTED, states.RETRY)


def pages(
    celery: Callable[[], FlaskCelery],
    task: Task,
    name: str,
    inputs: Callable[[dict[str, Any]], Mapping[str, Any]],
) -> Blueprint:
    """Return the blueprint; see `FlaskMillstream.blueprint`."""
    blueprint = Blueprint(name, __name__)

    @blueprint.post("/run-task")
    def run_task() -> Response:
        given = request.get_json(silent=True) if request.get_data() else {}
        if not isinstance(given, dict):
            return answer(400, error="the request's body has to be a JSON object, with the type application/json")
        try:
            named = made_of(given, inputs)
        except ValueError as error:
            return answer(400, error=str(error))
        try:
            result = task.apply_async(kwargs=named)
        except InvalidInputError as error:
            return answer(400, error=str(error))
        except WorkflowResourceError as error:
            return answer(413, error=str(error))
        return answer(202, task_id=result.id, status="Task started")

    @blueprint.get("/task-status/<path:task_id>")
    def task_status(task_id: str) -> Response:
        result = celery().AsyncResult(task_id)
        status = result.state
        if status is None:
            return answer(404, task_id=task_id, error="no task is known under this id")
        value = None if status in _WITHOUT_RESULT else result.result
        if isinstance(value, BaseException):
            value = f"{type(value).__name__}: {value}"
        return answer(200, task_id=task_id, status=status, result=value)

    @blueprint.errorhandler(WorkflowServiceUnavailableError)
    def unavailable(error: WorkflowServiceUnavailableError) -> Response:
        return answer(503, error=str(error))

    return blueprint


def made_of(given: dict[str, Any], inputs: Callable[[dict[str, Any]], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arguments that `inputs` makes of what a page was given.

    Raises:
        ValueError: It cannot.

    Example:
        >>> made_of({"n": 3}, lambda given: {"duration": given["seconds"]})
        Traceback (most recent call last):
        ValueError: 'seconds' is missing
    """
    try:
        return dict(inputs(given))
    except KeyError as error:
        raise ValueError(f"{error} is missing") from error
    except TypeError as error:
        raise ValueError(str(error)) from error


def answer(code: int, **content: Any) -> Response:
    """Return an answer of JSON: what JSON does not have is in it as Python shows it."""
    return Response(as_json(content), code, mimetype="application/json")


def as_json(content: Mapping[str, Any]) -> bytes:
    """Return an object as strict JSON; what JSON does not have is in it as Python shows it.

    Example:
        >>> as_json({"status": "SUCCESS", "result": {"ratio": float("nan"), "size": 1 + 2j}})
        b'{"status":"SUCCESS","result":{"ratio":null,"size":"(1+2j)"}}'
    """
    parts = b",".join(b"%b:%b" % (msgspec.json.encode(key), _value(value)) for key, value in content.items())
    return b"{%b}" % parts


def _value(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=repr)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return msgspec.json.encode(repr(value))
