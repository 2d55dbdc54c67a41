"""The pages that start a task, and tell how tasks stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Response, request

from millstream.compat import Task
from millstream.desk.tasks import STARTED, as_json, task_status
from millstream.errors import InvalidInputError, WorkflowResourceError, WorkflowServiceUnavailableError
from millstream.integrations.flask.celery import FlaskCelery


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
        return answer(202, task_id=result.id, status=STARTED)

    @blueprint.get("/task-status/<path:task_id>")
    def tell_status(task_id: str) -> Response:
        door = celery().door  # and not its engine, which knows the tasks only once the door was used
        told = door.block_on(lambda: task_status(door, task_id))
        if told is None:
            return answer(404, task_id=task_id, error="no task is known under this id")
        return answer(200, **told)

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
