"""The prompt template: text with places in it that values fill, in Jinja's language."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from millstream.authoring.task import task
from millstream.errors import OutputTooLargeError
from millstream.library.bounds import bounds
from millstream.library.values import as_text, plain

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_TEMPLATE = 64 << 10
"""Characters that a template may have."""

MOST_RENDERED = 1 << 20
"""Characters that may come out of it."""


@task(effect="pure", run_in="process", soft_timeout=5, timeout=20)
def prompt_template(template: str, **variables: Any) -> str:
    """Fill values into a template.

    Templates are Jinja's, in its sandbox: they reach no attribute that begins with `_`, change no value and load no
    file. One that does not end is stopped after 5 seconds.

    Args:
        template: The text, with `{{ name }}` where a value belongs; at most 64 Ki characters.
        variables: The values by name; a message stands for its text.

    Raises:
        ValueError: The template cannot be read, names a variable without a value, or does what the sandbox refuses.
        TimeoutError: It took more than 5 seconds.
        MemoryError: It wanted more than 512 MiB of memory.
        OutputTooLargeError: It made more than 1 Mi characters.

    >>> prompt_template("Answer {{ name }}: {{ question }}", name="Ada", question="why?")
    'Answer Ada: why?'
    """
    from jinja2 import TemplateError, TemplateSyntaxError  # noqa: PLC0415  servers need Jinja in pool processes only

    template = as_text(template)
    if len(template) > MOST_TEMPLATE:
        raise ValueError(f"the template has {len(template):,} characters, but may have {MOST_TEMPLATE:,}")
    values = {name: plain(value) for name, value in variables.items()}
    try:
        with bounds("the template"):
            return _rendered(template, values)
    except TemplateSyntaxError as error:
        raise ValueError(f"the template cannot be read: line {error.lineno}: {error.message}") from None
    except TemplateError as error:
        raise ValueError(f"the template cannot be filled: {error.message}") from None


def _rendered(template: str, values: dict[str, Any]) -> str:
    parts: list[str] = []
    size = 0
    for part in _environment().from_string(template).generate(values):
        size += len(part)
        if size > MOST_RENDERED:
            raise OutputTooLargeError(f"the template made more than {MOST_RENDERED:,} characters")
        parts.append(part)
    return "".join(parts)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import FunctionLoader, StrictUndefined  # noqa: PLC0415  as above
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, loader=FunctionLoader(_refuse), keep_trailing_newline=True
    )
    del environment.globals["lipsum"]  # nonsense text is of no use in a prompt
    return environment


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"the template cannot be filled: it names {name!r}, and there are no other templates")
