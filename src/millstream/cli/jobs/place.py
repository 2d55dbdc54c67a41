"""Says where jobs are looked after: in the ledger that the settings name, or on a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from millstream.cli.options import EnvFile


@dataclass(frozen=True)
class Place:
    """The options that name a server; without them the ledger is meant.

    Attributes:
        url: Where the server is.
        api_key: Who asks it.
        env_file: Where the settings stand that name the ledger.
    """

    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Ask this server, such as http://127.0.0.1:7860, and no ledger."),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="MILLSTREAM_API_KEY", metavar="KEY", help="The API key to ask it with."),
    ] = None
    env_file: EnvFile = None
