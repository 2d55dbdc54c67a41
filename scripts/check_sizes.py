"""Fail where a source file or function of the product has grown past what a reader holds in the head.

Split such a file by meaning, never by line count.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES = 400
FUNCTION_LINES = 60  # its docstring not counted


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function takes from its `def`, without its docstring."""
    match node.body[0]:
        case ast.Expr(value=ast.Constant(value=str())) as docstring:
            documented = (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
        case _:
            documented = 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - documented


def too_long(path: Path, name: str) -> Iterator[str]:
    """Yield one line for each size in the Python file `path` that is over its limit; `name` is what to call it."""
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield f"{name}: {lines} lines, the limit is {FILE_LINES}"
    for node in ast.walk(ast.parse(text, filename=name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and function_lines(node) > FUNCTION_LINES:
            size = function_lines(node)
            yield f"{name}:{node.lineno}: {node.name} has {size} lines, the limit is {FUNCTION_LINES}"


def main() -> int:
    """Print what is too long and return the exit code."""
    sources = [p for p in sorted((ROOT / "src").rglob("*.py")) if "migrations" not in p.parts]
    complaints = [line for path in sources for line in too_long(path, str(path.relative_to(ROOT)))]
    print("\n".join(complaints) or f"Sizes: {len(sources)} files within their limits.")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
