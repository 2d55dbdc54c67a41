"""The options that several commands share: one name and one meaning everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output, for programs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks, and millstream's own log down to debug.")]
EnvFile = Annotated[Path | None, typer.Option("--env-file", help="Read settings from this file, not from .env.")]
Given = Annotated[
    list[str] | None, typer.Option("--input", "-i", metavar="KEY=VALUE", help="An input; may be repeated.")
]
AppOption = Annotated[
    str | None,
    typer.Option("--app", "-A", metavar="MODULE[:APP]", help="The module or file whose flows are meant."),
]
