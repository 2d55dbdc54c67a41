"""Write the table of routes in docs/reference/http-api.md, as the server has them; a test holds the page to it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from millstream.server.assemble import create_app
from millstream.server.openapi import document
from millstream.settings import Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "http-api.md"
HEADING = "## All routes\n"


def table() -> str:
    """Return the table: of every route what an API key needs, and what it does."""
    paths = document(create_app(Settings()))["paths"]
    operations = [
        (operation["tags"][0], f"`{method.upper()} {path}`", operation)
        for path, by_method in paths.items()
        for method, operation in by_method.items()
    ]
    lines = []
    for tag, group in groupby(operations, lambda one: one[0]):
        lines += [f"\n### {tag[:1].upper()}{tag[1:]}\n", "| route | scope | |", "|---|---|---|"]
        for _, route, operation in group:
            scope = f"`{operation['x-scope']}`" if "x-scope" in operation else _without_scope(operation)
            told = " ".join(operation["description"].partition("\n\n")[0].split()).replace("|", "\\|")
            lines.append(f"| {route} | {scope} | {told} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the page with the table that it should have.

    Args:
        text: The page as it is.
    """
    before, heading, _ = text.partition(HEADING)
    return before + heading + table()


def _without_scope(operation: dict[str, object]) -> str:
    return "any" if "security" in operation else "public"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
