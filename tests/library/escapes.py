"""A program that fills templates whose authors want out of the sandbox, and says what Python was made to do by it."""

import sys
from contextlib import suppress
from itertools import product
from pathlib import Path

from millstream.library.prompt import prompt_template

CANARY = "canary.txt"
BASES = (
    *("''", "''.join", "0", "0.5", "()", "[]", "{}", "none", "true", "x", "x.format", "x|upper", "rows", "rows[0]"),
    *("rows.index", "user", "user.items", "user.items()", "self", "range", "range(3)", "cycler", "cycler('a')"),
    *("joiner", "namespace()", "dict"),
)
DUNDERS = (
    *("__class__", "__init__", "__globals__", "__mro__", "__base__", "__bases__", "__subclasses__", "__builtins__"),
    *("__reduce__", "__dict__", "__self__", "__func__", "__code__", "_secret", "gi_frame"),
)
WAYS = (
    "{{{{ {base}.{dunder} }}}}",
    "{{{{ {base}['{dunder}'] }}}}",
    "{{{{ {base}|attr('{dunder}') }}}}",
    "{{{{ {base}|attr('{escaped}') }}}}",
    "{{{{ {base}['{escaped}'] }}}}",
    "{{{{ [{base}]|map(attribute='{dunder}')|list }}}}",
    "{{{{ [{base}]|sort(attribute='{dunder}')|list|length }}}}",
    "{{{{ [{base}]|groupby('{dunder}')|map('first')|list }}}}",
    "{{{{ '{{0.{dunder}}}'.format({base}) }}}}",
    "{{{{ ('{{0.{dunder}}}'|attr('format'))({base}) }}}}",
    "{{{{ '{{a.{dunder}}}'.format_map({{'a': {base}}}) }}}}",
    "{{% set c = {base}.{dunder} %}}{{{{ c('open')('" + CANARY + "', 'w').write('x') }}}}",
    "{{% for c in {base}.{dunder}() %}}{{{{ c }}}}{{% endfor %}}",
)
WHOLE = (
    "{{ ().__class__.__base__.__subclasses__()[0] }}",
    "{{ cycler.__init__.__globals__.os.popen('touch canary.txt').read() }}",
    "{{ self._TemplateReference__context.environment.globals }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('touch canary.txt') }}",
    "{% from 'subprocess' import Popen %}",
    "{% extends 'x' %}",
    "{{ rows.append(1) }}",
    "{{ user.update({'a': 1}) }}",
    "{{ user.pop('name') }}",
    "{{ rows.sort() }}",
    "{% do rows.clear() %}",
    "{{ caller() }}{{ loop }}{{ super() }}",
    "{{ g }}{{ request }}{{ config }}{{ url_for.__globals__ }}",
)
NEVER = ("open", "os.", "subprocess.", "socket.", "import", "ctypes.", "shutil.")
SHOWN = ("<class", "<function", "<module", "<built-in function", "<slot", "<frame", "<code")


def main() -> None:
    """Fill the templates, and print how many there were and each that did or showed what it must not."""
    with suppress(ValueError):
        prompt_template("{{ 'a'.__class__ }}")  # what is imported on first use, and for an error, is imported now
    done: list[str] = []
    sys.addaudithook(lambda event, args: done.append(f"{event} {args[0]}") if event.startswith(NEVER) else None)
    escaped = {dunder: "".join(f"\\x{ord(letter):02x}" for letter in dunder) for dunder in DUNDERS}
    templates = [way.format(base=b, dunder=d, escaped=escaped[d]) for way, b, d in product(WAYS, BASES, DUNDERS)]
    bad = []
    for template in (*templates, *WHOLE):
        rows, user = [3, 1], {"name": "Ada"}
        done.clear()
        try:
            text = prompt_template(template, x="text", rows=rows, user=user)
        except Exception as error:  # noqa: BLE001  a refusal of any kind will do
            text = f"{type(error).__name__}"
        if done or any(sign in text for sign in SHOWN) or (rows, user) != ([3, 1], {"name": "Ada"}):
            bad.append((template, text, list(done)))
    print(len(templates) + len(WHOLE), Path(CANARY).exists(), bad)  # noqa: T201  the test reads it


if __name__ == "__main__":
    main()
