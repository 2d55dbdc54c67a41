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

# Since Python 3.14 a module's annotations are evaluated when they are first read, as those written so are before it.
LATER = (
    ("" if sys.version_info >= (3, 14) else "from __future__ import annotations")
    + """
from typing import TYPE_CHECKING
from pydantic import BaseModel
from millstream import chain, flow, task
from millstream.compat import Celery
from millstream.compat.dispatch import Signal

if TYPE_CHECKING:
    from decimal import Decimal

@task
def double(number: Number) -> Decimal:
    return number * 2

@task(bind=True)
def add(self, number: Number, more: Decimal = 1) -> Decimal:
    return number + more

@task
def failed(task_id: Number) -> Decimal: ...

@flow
def calculate(number: Number) -> Decimal:
    return add(double(number))

app = Celery("shop", set_as_current=False)

@app.task(pydantic=True)
def price(order: Order, rate: Decimal = 2) -> Decimal:
    return rate

def told(signal: Signal, sender: Number, **_: Decimal) -> None:
    print(sender, end=" ")

class Number(int): ...

class Order(BaseModel):
    amount: int

if __name__ == "__main__":
    sold = Signal(name="sold")
    sold.connect(told)
    sold.send(1)
    chained = chain(double.s(3), add.s()).on_error(failed.s())
    print(calculate.run(3), chained.delay().get(), price.apply([{"amount": 3}]).get())
"""
)


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


def test_definitions_may_be_annotated_with_types_that_are_not_there_yet() -> None:
    Path("later.py").write_text(LATER, encoding="utf-8")
    assert printed("later.py") == "1 7 7 2"


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
