"""What a template or pattern wants to take for ever, or without measure, is stopped and told; others go on."""

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millstream import Millstream, Settings, task
from millstream.errors import OutputTooLargeError, TaskTimeoutError
from millstream.library.logic import if_else
from millstream.library.patterns import MOST_PATTERN, regex_extract, regex_replace
from millstream.library.prompt import MOST_RENDERED, MOST_TEMPLATE, prompt_template

CATASTROPHE = "(a+)+$"
VICTIM = "a" * 60 + "b"


@pytest.fixture(scope="module")
async def app() -> AsyncIterator[Millstream]:
    async with Millstream(settings=Settings(durability="off", max_processes=8)) as app:
        yield app


async def result(app: Millstream, work: Any, *args: Any, **inputs: Any) -> Any:
    return await (await app.submit(work, *args, **inputs)).result()


@task(run_in="loop")
def ping() -> int:
    return os.getpid()


ENDLESS: dict[str, tuple[Any, dict[str, Any]]] = {
    "loop": (
        prompt_template,
        {"template": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"},
    ),
    "filters": (prompt_template, {"template": "{{ range(99999) | map('string') | list | length }}" * 1000}),
    "extract": (regex_extract, {"text": VICTIM, "pattern": CATASTROPHE}),
    "replace": (regex_replace, {"text": VICTIM, "pattern": CATASTROPHE, "replacement": "x"}),
    "if": (if_else, {"value": VICTIM, "operator": "matches regex", "other": CATASTROPHE}),
    "quadratic": (regex_extract, {"text": "a" * 90_000, "pattern": "a.*b|a", "matches": "all"}),
}


async def test_what_takes_for_ever_fails_its_node_and_everything_else_goes_on(app: Millstream) -> None:
    jobs = {name: await app.submit(work, **inputs) for name, (work, inputs) in ENDLESS.items()}
    assert await result(app, ping) == os.getpid()
    assert await result(app, prompt_template, template="{{ a }}", a=1) == "1"
    for name, job in jobs.items():
        what = "template" if ENDLESS[name][0] is prompt_template else "pattern"
        with pytest.raises(TimeoutError, match=f"the {what} took too long"):
            await job.result()


@pytest.mark.matrix
async def test_what_no_signal_interrupts_is_killed(app: Millstream) -> None:
    with pytest.raises(TaskTimeoutError, match="20 s"):
        await result(app, prompt_template, template="{{ 9 ** (9 ** 9) }}")


async def test_the_cancel_of_a_job_ends_its_template(app: Millstream) -> None:
    work, inputs = ENDLESS["loop"]
    job = await app.submit(work, **inputs)
    async for event in job.events():
        if event.type == "started":
            break
    await job.cancel()
    assert (await app.record(job.id)).state == "cancelled"


# --------------------------------------------------------------------------------------------------- templates
@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10 ** 10 }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ [1] * 10 ** 10 }}",
        "{% set x = namespace(t='aaaaaaaa') %}{% for i in range(99) %}{% set x.t = x.t ~ x.t %}{% endfor %}",
    ],
)
async def test_a_template_that_wants_all_the_memory_fails_its_node(app: Millstream, template: str) -> None:
    with pytest.raises((MemoryError, OverflowError)):
        await result(app, prompt_template, template=template)


async def test_a_template_makes_no_more_than_it_may(app: Millstream) -> None:
    rows = "{% for i in range(99999) %}0123456789{% endfor %}"
    assert len(await result(app, prompt_template, template=rows)) == 999_990
    with pytest.raises(OutputTooLargeError, match=f"{MOST_RENDERED:,}"):
        await result(app, prompt_template, template=rows * 2)
    with pytest.raises(ValueError, match=f"{MOST_TEMPLATE:,}"):
        await result(app, prompt_template, template="a" * (MOST_TEMPLATE + 1))


@pytest.mark.parametrize("template", ["(" * 5000, "{{ " + "(" * 5000 + ")" * 5000 + " }}", "{% if a %}" * 5000])
async def test_a_template_that_is_nested_too_deeply_is_told(app: Millstream, template: str) -> None:
    if template.startswith("{"):
        with pytest.raises((RecursionError, ValueError)):
            await result(app, prompt_template, template=template)
    else:
        assert await result(app, prompt_template, template=template) == template


# ---------------------------------------------------------------------------------------------------- patterns
async def test_replacements_cannot_grow_without_measure(app: Millstream) -> None:
    for length, refused in ((2_000, OutputTooLargeError), (1_000_000, MemoryError)):
        with pytest.raises(refused):
            await result(app, regex_replace, text="a" * 10_000, pattern="a", replacement="b" * length)


@pytest.mark.parametrize("pattern", ["(", "a" * (MOST_PATTERN + 1), "(?P<a>.)(?P<a>.)", "*", "[a", "a{99999999999}"])
async def test_a_pattern_that_cannot_be_read_is_told(app: Millstream, pattern: str) -> None:
    for work in (regex_extract, regex_replace):
        with pytest.raises(ValueError, match="the pattern"):
            await result(app, work, text="a", pattern=pattern)


@pytest.mark.parametrize("pattern", ["(" * 5000 + ")" * 5000, "(?:" * 3000 + "a" + ")*" * 3000])
async def test_a_pattern_that_is_nested_too_deeply_is_told(app: Millstream, pattern: str) -> None:
    with pytest.raises((RecursionError, ValueError), match="the pattern"):
        await result(app, regex_extract, text="a", pattern=pattern)
