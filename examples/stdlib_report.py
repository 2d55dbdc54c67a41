"""A report on Python's own standard library: every module of it parsed, as many at a time as there are CPUs.

    millstream run examples/stdlib_report.py
    millstream run examples/stdlib_report.py -i limit=100 -i top=3

The flow lists the modules, maps a task over them that runs in processes (parsing keeps a CPU busy), and joins what
comes back into one text. A file that cannot be parsed becomes a line of the report, not the end of the job.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from millstream import ctx, fixed, flow, task

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
CHUNK = 8  # files that share one hand-over to a process

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass
class Source:
    """What the source of one module says."""

    module: str
    lines: int = 0
    functions: list[tuple[int, str]] = field(default_factory=list)  # of each its lines and name
    classes: int = 0
    documented: int = 0
    documentable: int = 0
    imports: set[str] = field(default_factory=set)
    problem: str | None = None


@dataclass
class Work:
    """What it took to find that out."""

    process: int
    began: float
    ended: float
    cpu_seconds: float


@task
def list_modules(root: str, limit: int | None) -> list[str]:
    """Return the paths of the module files below a directory, in order."""
    found = sorted(_module_files(root))
    ctx.log(f"{len(found)} modules below {root}", modules=len(found))
    return list(islice(found, limit))


def _module_files(root: str) -> Iterator[str]:
    for directory, folders, files in os.walk(root):
        folders[:] = [folder for folder in folders if folder not in LEFT_OUT]
        yield from (os.path.relpath(Path(directory, file), root) for file in files if file.endswith(".py"))


@task(run_in="process")
def parse(path: str, root: str) -> tuple[Source, Work]:
    """Parse one module and count what is in it."""
    began, cpu = time.time(), time.process_time()
    source = Source(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    try:
        text = Path(root, path).read_bytes()
        source.lines = len(text.splitlines())
        _count(ast.parse(text, filename=path), source)
    except (OSError, SyntaxError, ValueError) as error:  # ValueError: null bytes, or an encoding that nobody knows
        source.problem = f"{type(error).__name__}: {error}"
        ctx.log(f"{path} was not parsed", level="warning", problem=source.problem)
    return source, Work(os.getpid(), began, time.time(), time.process_time() - cpu)


def _count(tree: ast.Module, source: Source) -> None:
    documentable: list[ast.Module | Definition] = [tree]
    for node, name in _walk(tree, source.module):
        match node:
            case ast.Import(names=names):
                source.imports.update(alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                source.imports.add(module.partition(".")[0])
            case ast.ClassDef():
                source.classes += 1
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                source.functions.append(((node.end_lineno or node.lineno) - node.lineno + 1, name))
        if isinstance(node, Definition) and not node.name.startswith("_"):
            documentable.append(node)
    source.documentable = len(documentable)
    source.documented = sum(ast.get_docstring(node, clean=False) is not None for node in documentable)


def _walk(tree: ast.Module, module: str) -> Iterator[tuple[ast.AST, str]]:
    """Yield every node below a module, with the full name of the definition that it is or belongs to."""
    left: list[tuple[ast.AST, str]] = [(tree, module)]
    while left:
        parent, name = left.pop()
        for node in ast.iter_child_nodes(parent):
            place = node, f"{name}.{node.name}" if isinstance(node, Definition) else name
            left.append(place)
            yield place


@task
def report(parsed: list[tuple[Source, Work]], top: int) -> str:
    """Join what was found into a text."""
    sources = [source for source, _ in parsed]
    largest = sorted(sources, key=lambda source: (-source.lines, source.module))[:top]
    longest = sorted((function for source in sources for function in source.functions), reverse=True)[:top]
    importers = Counter(name for source in sources for name in source.imports)
    by_use = sorted(importers.items(), key=lambda use: (-use[1], use[0]))[:top]
    problems = [f"  {source.module}: {source.problem}" for source in sources if source.problem]
    parts = [
        "\n".join(["Totals", *_totals(sources)]),
        _table(
            ("Largest modules", "lines", "functions", "classes", "documented"),
            [(s.module, s.lines, len(s.functions), s.classes, _share(s.documented, s.documentable)) for s in largest],
        ),
        _table(("Longest functions", "lines"), [(name, lines) for lines, name in longest]),
        _table(("Most imported", "importers"), by_use),
        "\n".join(["Not parsed", *problems]) if problems else "All were parsed.",
        _effort([work for _, work in parsed]),
    ]
    return "\n\n".join(parts)


def _totals(sources: Sequence[Source]) -> Iterator[str]:
    documented = _share(sum(s.documented for s in sources), sum(s.documentable for s in sources))
    totals = {
        "modules": len(sources),
        "lines": sum(source.lines for source in sources),
        "functions": sum(len(source.functions) for source in sources),
        "classes": sum(source.classes for source in sources),
        "not parsed": sum(source.problem is not None for source in sources),
        "documented": documented,
    }
    yield from (f"  {name:<12}{_cell(count):>10}" for name, count in totals.items())


def _effort(works: Sequence[Work]) -> str:
    if not works:
        return "There was nothing to parse."
    wall = max(work.ended for work in works) - min(work.began for work in works)
    cpu = sum(work.cpu_seconds for work in works)
    processes = len({work.process for work in works})
    who = f"{processes} process{'es' * (processes > 1)}"
    return f"{cpu:.1f} s of parsing took {wall:.1f} s by {who}: {cpu / wall:.1f} at a time."


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under heads: names to the left, figures to the right."""
    cells = [heads, *([f"  {row[0]}", *map(_cell, row[1:])] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells)
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


@flow
def stdlib_report(limit: int | None = None, top: int = 10, root: str | None = None) -> Any:
    """Report on the standard library of this Python, or on the modules below another directory.

    Args:
        limit: Only so many modules, the first ones by name.
        top: How long the tables may get.
        root: The directory; by default that of the standard library.
    """
    root = root or sysconfig.get_path("stdlib")
    modules = list_modules(root, limit)
    return report(parse.options(chunk=CHUNK).map(modules, fixed(root)), top)


if __name__ == "__main__":
    print(stdlib_report.run())
