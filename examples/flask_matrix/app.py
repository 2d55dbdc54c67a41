"""The matrix service: pages that start products of matrices in the background, and tell how they stand."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request
from tasks import ext, multiply, start_many, start_one
from werkzeug.exceptions import BadRequest

LARGEST = 4000
"""Rows of the largest matrix: two of them take 256 MB."""


def create_app() -> Flask:
    """Make the service; it runs tasks itself, unless CELERY_BROKER_URL names a broker for workers."""
    made = Flask(__name__)
    made.config.from_mapping(
        CELERY_BROKER_URL=os.environ.get("CELERY_BROKER_URL"),
        CELERY_RESULT_BACKEND=os.environ.get("CELERY_RESULT_BACKEND"),
        MATRIX_PAUSE=float(os.environ.get("MATRIX_PAUSE", "0")),  # seconds that a product takes longer, to watch it
    )
    ext.init_app(made)
    made.register_blueprint(ext.blueprint(multiply))  # POST /run-task, GET /task-status/<id>
    made.post("/matrix-multiply")(multiply_one)
    made.post("/matrix-multiply-bulk")(multiply_many)
    made.get("/health")(lambda: {"status": "ok"})
    made.register_error_handler(BadRequest, lambda error: ({"error": error.description}, 400))
    return made


def multiply_one() -> tuple[dict[str, Any], int]:
    """Start one product and its summary: a chain."""
    given = _given()
    started = start_one(_size(given.get("size")), _seed(given))
    return {"task_id": started.id, "status": "STARTED"}, 202


def multiply_many() -> tuple[dict[str, Any], int]:
    """Start many products and the summary of them all: a chord."""
    given = _given()
    sizes = given.get("sizes")
    if not isinstance(sizes, list) or not sizes:
        raise BadRequest(f"sizes has to be a list of one number or more, not {sizes!r}")
    started = start_many([_size(size) for size in sizes], _seed(given))
    return {"task_id": started.id, "status": "STARTED"}, 202


def _given() -> dict[str, Any]:
    given = request.get_json(silent=True)
    if not isinstance(given, dict):
        raise BadRequest("the request's body has to be a JSON object")
    return given


def _size(size: object) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST:
        raise BadRequest(f"a size has to be a whole number from 1 to {LARGEST}, not {size!r}")
    return size


def _seed(given: dict[str, Any]) -> int | None:
    seed = given.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise BadRequest(f"seed has to be a whole number of 0 or more, not {seed!r}")
    return seed


app = create_app()
celery = app.extensions["celery"]  # for `celery -A app.celery worker`

if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "5000")))
