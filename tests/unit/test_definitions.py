"""What a definition is called, wherever it is defined, and how durable a flow says its jobs are."""

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from millstream import Flow, flow, task
from millstream.errors import DefinitionError
from millstream.model.failure import Failure, record_failure

REPORT = """
from millstream import flow, task
from millstream.model.failure import record_failure
from millstream.model.policy import class_name

class OutOfStock(Exception):
    pass

@task(retry_for=OutOfStock)
def fetch(): ...

@flow
def bulk(): ...

def show():
    failure = record_failure(OutOfStock("none"))
    print(fetch.name, bulk.name, *fetch.policy.retry_for, failure.type, type(failure.to_exception()) is OutOfStock)

if __name__ == "__main__":
    show()
"""


def printed(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_programs_own_definitions_are_called_as_if_it_were_imported() -> None:
    Path("report.py").write_text(REPORT, encoding="utf-8")
    imported = printed("-c", "import report; report.show()")
    assert imported == "report.fetch report.bulk report:OutOfStock report:OutOfStock True"
    assert printed("report.py") == printed("-m", "report") == imported


def test_a_program_inside_a_package_is_called_with_its_package() -> None:
    package = Path("shop/nightly")
    package.mkdir(parents=True)
    for init in (package / "__init__.py", package.parent / "__init__.py"):
        init.touch()
    (package / "report.py").write_text(REPORT, encoding="utf-8")
    imported = printed("-c", "import shop.nightly.report as report; report.show()")
    assert imported.startswith("shop.nightly.report.fetch shop.nightly.report.bulk ")
    assert printed("shop/nightly/report.py") == printed("-m", "shop.nightly.report") == imported


def test_what_is_defined_at_a_prompt_stays_main() -> None:
    Path("report.py").write_text(REPORT.replace('__name__ == "__main__"', "True"), encoding="utf-8")
    told = printed("-c", "exec(open('report.py').read())")
    assert told == "__main__.fetch __main__.bulk __main__:OutOfStock __main__:OutOfStock True"


def test_a_failure_of_a_program_is_not_mistaken_for_one_of_this_program() -> None:
    failure = Failure(type="report:OutOfStock", message="none")
    assert type(failure.to_exception()).__name__ == "TaskError"
    assert record_failure(ValueError()).type == "builtins:ValueError"


# ------------------------------------------------------------------------------------------------------- durability
@pytest.mark.parametrize("durability", ["full", "relaxed", "off"])
def test_a_flow_says_how_durable_its_jobs_are(durability: Any) -> None:
    @flow(durability=durability)
    def decorated() -> None: ...

    @flow(durability=durability, name="conducting")
    async def conducting() -> None: ...

    assert decorated.durability == conducting.durability == durability
    assert Flow("drawn", durability=durability).durability == durability


def test_a_flow_that_says_nothing_leaves_it_to_the_setting() -> None:
    @flow
    def silent() -> None: ...

    assert silent.durability is None
    assert Flow("drawn").durability is None


@pytest.mark.parametrize("durability", ["none", "FULL", True, 1])
def test_no_other_durability_is_taken(durability: object) -> None:
    with pytest.raises(DefinitionError, match=r"flow etl: durability is .+, but must be full, relaxed or off"):
        Flow("etl", durability=cast("Any", durability))


def test_a_task_has_no_durability_of_its_own() -> None:
    with pytest.raises(DefinitionError, match="durability"):

        @task(durability="off")
        def fetch() -> None: ...
