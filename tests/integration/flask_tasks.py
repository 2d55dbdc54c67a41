"""An extension as a project with an application factory has it, in a module of its own, with tasks beside it."""

import os

from flask import Flask, current_app

from millstream.compat import Task, shared_task
from millstream.integrations.flask import FlaskMillstream

ext = FlaskMillstream()


def create_app(**config: object) -> Flask:
    app = Flask("factory")
    app.config.from_mapping({"GREETING": "hello", **config})
    ext.init_app(app)
    return app


@ext.task
def greet(name: str) -> str:
    return f"{current_app.config['GREETING']} {name}"


@ext.task
async def greet_async(name: str) -> str:
    return f"{current_app.config['GREETING']} {name}"


@ext.task(bind=True, max_retries=2)
def greet_at_second(self: Task, name: str) -> str:
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return f"{current_app.config['GREETING']} {name}"


@ext.task(run_in="process")
def greet_in_process(name: str) -> tuple[str, int]:
    return f"{current_app.config['GREETING']} {name}", os.getpid()


@shared_task
def greet_shared(name: str) -> str:
    return f"{current_app.config['GREETING']} {name}"
