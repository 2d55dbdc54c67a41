"""The pattern of Flask's own documentation: tasks of a moved app run in the context of the Flask app."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from flask import Blueprint, Flask, current_app, request
from flask.testing import FlaskClient

from millstream import Millstream
from millstream.authoring import current
from millstream.compat import Celery, Task, _state, shared_task
from millstream.compat.result import AsyncResult

WAIT = 120


@shared_task(ignore_result=False)
def greet(name: str) -> str:
    return f"{current_app.config['GREETING']} {name}"


@shared_task(bind=True, ignore_result=False)
def greet_twice(self: Task, name: str) -> list[str]:
    self.update_state(state="PROGRESS", meta={"done": 0})
    return [f"{current_app.config['GREETING']} {name}"] * 2


pages = Blueprint("tasks", __name__, url_prefix="/tasks")


@pages.post("/greet")
def start() -> dict[str, object]:
    return {"result_id": greet.delay(request.form["name"]).id}


@pages.get("/result/<task_id>")
def status(task_id: str) -> dict[str, object]:
    result = AsyncResult(task_id)
    ready = result.ready()
    return {"ready": ready, "successful": result.successful() if ready else None, "value": ready and result.result}


def celery_init_app(app: Flask) -> Celery:
    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app


@pytest.fixture
def app() -> Iterator[Flask]:
    made = Flask(__name__)
    made.config.from_mapping(CELERY={"broker_url": "redis://localhost", "task_ignore_result": True}, GREETING="hello")
    millstream = Millstream()
    with current.use_everywhere(millstream):
        celery_init_app(made)
        made.register_blueprint(pages)
        yield made
    asyncio.run(millstream.aclose())
    _state.set_current_app(None)


def until_ready(client: FlaskClient, task_id: str) -> dict[str, object]:
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        found: dict[str, object] = client.get(f"/tasks/result/{task_id}").get_json()
        if found["ready"]:
            return found
        time.sleep(0.01)
    raise TimeoutError(task_id)


def test_a_shared_task_that_a_page_starts_runs_in_the_context_of_the_app(app: Flask) -> None:
    client = app.test_client()
    task_id = client.post("/tasks/greet", data={"name": "tea"}).get_json()["result_id"]
    assert until_ready(client, task_id) == {"ready": True, "successful": True, "value": "hello tea"}


def test_so_do_bound_ones_and_those_that_are_called_like_functions(app: Flask) -> None:
    assert greet("cake") == "hello cake"
    assert greet_twice.delay("tea").get(timeout=WAIT) == ["hello tea", "hello tea"]
    assert app.extensions["celery"].tasks[greet.name] is greet


def test_tasks_that_are_shared_after_the_app_was_made_run_in_it_too(app: Flask) -> None:
    @shared_task(name=f"{__name__}.later")
    def later() -> str:
        return str(current_app.config["GREETING"])

    assert later.delay().get(timeout=WAIT) == "hello"
    assert isinstance(later, app.extensions["celery"].Task)


@pytest.mark.usefixtures("app")
def test_another_app_that_is_made_the_current_one_takes_them_over() -> None:
    assert greet.delay("tea").get(timeout=WAIT) == "hello tea"
    other = Flask("other")
    other.config.from_mapping(CELERY={}, GREETING="good day")
    celery_init_app(other)
    assert greet.delay("tea").get(timeout=WAIT) == "good day tea"
