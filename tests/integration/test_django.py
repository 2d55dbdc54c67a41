"""millstream in a Django project: a real one, on SQLite, each time in a process of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.integration.cli_program import environment

SECONDS = 120
FILES = {
    "manage.py": """
        import os
        import sys

        if __name__ == "__main__":
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
            from django.core.management import execute_from_command_line

            execute_from_command_line(sys.argv)
        """,
    "project/__init__.py": "",
    "project/settings.py": """
        import os
        from pathlib import Path

        BASE_DIR = Path(__file__).resolve().parent.parent
        SECRET_KEY = "of-the-tests"
        INSTALLED_APPS = ["millstream.integrations.django", "shop"]
        DATABASES = {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": BASE_DIR / "db.sqlite3",
                "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
            }
        }
        USE_TZ = True
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        CELERY_TASK_TIME_LIMIT = 30
        CELERY_BROKER_URL = os.environ.get("BROKER")
        MILLSTREAM_DATABASE_URL = f"sqlite:///{BASE_DIR}/ledger.db"
        """,
    "project/celery.py": """
        import django

        django.setup()
        from django.apps import apps

        app = apps.get_app_config("millstream").celery
        """,
    "shop/__init__.py": "",
    "shop/models.py": """
        from django.db import models


        class Order(models.Model):
            article = models.CharField(max_length=20)
            is_shipped = models.BooleanField(default=False)
        """,
    "shop/tasks.py": """
        from django.db import connection

        from millstream import flow, task
        from millstream.compat import shared_task
        from shop.models import Order


        @shared_task
        def ship(pk):
            changed = Order.objects.filter(pk=pk).update(is_shipped=True)
            return {"changed": changed, "article": Order.objects.get(pk=pk).article}


        @shared_task
        async def ship_async(pk):
            order = await Order.objects.aget(pk=pk)
            order.is_shipped = True
            await order.asave()
            return order.article


        @shared_task
        def connects():
            was_open = connection.connection is not None
            connection.ensure_connection()
            return was_open


        @task
        def double(x):
            return 2 * x


        @flow
        def doubled(upto: int):
            return double.map(list(range(upto)))
        """,
}
SETUP = "import django, json; django.setup(); from django.apps import apps; from django.db import transaction\n"
TELL = "print(json.dumps(told))"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose database is migrated."""
    home = tmp_path_factory.mktemp("django")
    for name, text in FILES.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(dedent(text), encoding="utf-8")
    for command in (["makemigrations", "shop"], ["migrate"]):
        done = run(home, "manage.py", *command, "-v", "0")
        assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def project(made: Path) -> Path:
    """The project with a new ledger."""
    for left in made.glob("ledger.db*"):
        if left.is_file():
            left.unlink()
    return made


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=home,
        env=environment(DJANGO_SETTINGS_MODULE="project.settings", PYTHONPATH=_path(home), **variables),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def _path(home: Path) -> str:
    return os.pathsep.join(filter(None, (str(home), os.environ.get("PYTHONPATH"))))


def told(home: Path, program: str, **variables: str) -> Any:
    """Run a program in the project, and return the `told` that it left."""
    done = run(home, "-c", f"{SETUP}{dedent(program)}\n{TELL}", **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_settings_of_both_kinds_are_the_projects(project: Path) -> None:
    seen = told(
        project,
        """
        from millstream.authoring import current
        from shop.tasks import ship
        settings = current.app().settings
        told = [ship.policy.timeout, settings.database_url, settings.celery_enabled]
        """,
    )
    assert seen == [30, f"sqlite:///{project}/ledger.db", False]


def test_a_broker_is_the_switch_to_workers(project: Path) -> None:
    program = "from millstream.authoring import current; told = current.app().settings.celery_enabled"
    assert told(project, program, BROKER="redis://localhost:6379/3") is True


def test_tasks_run_with_the_models_also_coroutines_and_flows(project: Path) -> None:
    seen = told(
        project,
        """
        from shop.models import Order
        from shop.tasks import doubled, ship, ship_async
        tea, cake = Order.objects.create(article="tea"), Order.objects.create(article="cake")
        told = [ship.delay(tea.pk).get(timeout=120), ship_async.delay(cake.pk).get(timeout=120), doubled.run(upto=3)]
        told.append(Order.objects.filter(pk__in=[tea.pk, cake.pk], is_shipped=True).count())
        """,
    )
    assert seen == [{"changed": 1, "article": "tea"}, "cake", [0, 2, 4], 2]


def test_what_is_submitted_on_commit_finds_what_was_written_and_never_starts_after_a_rollback(project: Path) -> None:
    seen = told(
        project,
        """
        from millstream.authoring import current
        from millstream.integrations.django import submit_on_commit
        from shop.models import Order
        from shop.tasks import ship
        app = current.app()
        jobs = lambda: app.block_on(app.jobs)
        before = []
        with transaction.atomic():
            for submit in (ship.delay_on_commit, lambda pk: ship.apply_async_on_commit(args=[pk]),
                           lambda pk: submit_on_commit(ship.s(pk))):
                submit(Order.objects.create(article="tea").pk)
            app.block_on(lambda: app._home.at(lambda process: process.share()))
            before = len(jobs())
        after = jobs()
        try:
            with transaction.atomic():
                ship.delay_on_commit(Order.objects.create(article="cake").pk)
                raise KeyError
        except KeyError:
            pass
        from millstream.compat.result import AsyncResult
        ended = [AsyncResult(job.id).get(timeout=120) for job in after]
        told = [before, len(after), len(jobs()), ended]
        """,
    )
    assert seen == [0, 3, 3, [{"changed": 1, "article": "tea"}] * 3]


def test_tasks_have_what_django_needs_of_them_before_they_are_used_also_those_of_other_modules(project: Path) -> None:
    program = """
        from millstream.compat import shared_task
        from shop.tasks import ship
        @shared_task(name="shop.later")
        def later():
            return 1
        told = [hasattr(ship, "delay_on_commit"), hasattr(later, "delay_on_commit")]
        """
    assert told(project, program) == [True, True]


def test_no_connection_outlives_its_task_in_a_thread(project: Path) -> None:
    program = "from shop.tasks import connects; told = [connects.delay().get(timeout=120) for _ in range(3)]"
    assert told(project, program) == [False, False, False]


def test_a_task_that_is_called_leaves_the_callers_connection_alone(project: Path) -> None:
    program = """
        from django.db import connection
        from shop.tasks import connects
        connects()
        told = connection.connection is not None
        """
    assert told(project, program) is True


@pytest.mark.matrix
def test_manage_py_has_the_commands_of_the_program(project: Path) -> None:
    ran = run(project, "manage.py", "millstream", "run", "shop/tasks.py:doubled", "-i", "upto=3", "--json")
    assert json.loads(ran.stdout.splitlines()[-1])["result"] == [0, 2, 4], ran.stderr
    wrong = run(project, "manage.py", "millstream", "no-such-command")
    assert (wrong.returncode, "manage.py millstream --help" in wrong.stderr) == (2, True)


def test_its_worker_knows_the_tasks_of_all_apps(project: Path) -> None:
    job = told(
        project,
        """
        import asyncio
        from millstream import Millstream
        from millstream.authoring import current
        from shop.models import Order
        from shop.tasks import ship
        settings, order = current.app().settings, Order.objects.create(article="tea")
        async def main():
            async with Millstream(settings=settings, executes=False) as app:
                return (await app.submit(ship, order.pk)).id
        told = asyncio.run(main())
        """,
    )
    command = [sys.executable, "manage.py", "millstream", "worker"]
    with subprocess.Popen(
        command, cwd=project, env=environment(PYTHONPATH=_path(project)), stderr=subprocess.PIPE, text=True
    ) as worker:
        try:
            assert worker.stderr is not None
            assert "is ready: 5 flows and tasks" in worker.stderr.readline()
            done = run(project, "manage.py", "millstream", "jobs", "events", job, "--follow", "--json")
            assert done.returncode == 0, done.stderr
        finally:
            worker.terminate()
            worker.wait(SECONDS)
    shown = json.loads(run(project, "manage.py", "millstream", "jobs", "show", job, "--json").stdout)
    assert (shown["state"], shown["result"]) == ("succeeded", {"changed": 1, "article": "tea"})


@pytest.mark.matrix
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "celery", "-A", "project.celery", "worker", "-c", "2", "-l", "info"],
        ["manage.py", "millstream", "worker"],
    ],
    ids=["celery worker", "manage.py"],
)
def test_tasks_run_on_workers_where_the_settings_name_a_broker(
    project: Path, valkey_url: str, command: list[str]
) -> None:
    variables = {"BROKER": valkey_url, "DJANGO_SETTINGS_MODULE": "project.settings", "PYTHONPATH": _path(project)}
    log = project / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, *command], cwd=project, env=environment(**variables), stdout=output, stderr=output
        )
    try:
        until = time.monotonic() + SECONDS
        while "ready" not in (said := log.read_text(encoding="utf-8")):
            assert worker.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.02)
        seen = told(
            project,
            """
            import os
            from shop.models import Order
            from shop.tasks import ship, ship_async
            keys = [Order.objects.create(article=article).pk for article in ("tea", "cake")]
            with transaction.atomic():
                ship.delay_on_commit(keys[0])
            told = [ship.delay(keys[0]).get(timeout=50), ship_async.delay(keys[1]).get(timeout=50)]
            told.append(Order.objects.filter(pk__in=keys, is_shipped=True).count())
            """,
            BROKER=valkey_url,
        )
        assert seen == [{"changed": 1, "article": "tea"}, "cake", 2], log.read_text(encoding="utf-8")
    finally:
        worker.terminate()
        worker.wait(SECONDS)
