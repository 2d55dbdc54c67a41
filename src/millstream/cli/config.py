"""`millstream config`: what the settings are, and where each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from millstream.cli.exits import Exit
from millstream.cli.groups import make_group
from millstream.cli.options import AsJson, Debug, EnvFile
from millstream.cli.pages import table
from millstream.cli.session import Session, write

if TYPE_CHECKING:
    from millstream.settings import Settings

group = make_group("config", "Look at the settings.")
_PLAIN = (bool, int, float, tuple)


@group.command("show")
def show(
    context: typer.Context,
    sources: Annotated[bool, typer.Option("--sources", help="Say where each value was read.")] = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Show all settings with their values; passwords are masked."""
    session = Session.of(context, debug=debug, env_file=env_file)
    settings = session.settings()
    names = sorted(type(settings).model_fields)
    origin = settings.sources()
    if as_json:
        session.write_json({name: {"value": _value(settings, name), "source": str(origin[name])} for name in names})
        return Exit.OK
    listed = table("setting", "value", *(["source"] if sources else []))
    for name in names:
        is_set = origin[name].kind != "default"
        row = [Text(name, "cyan"), Text(settings.display(name), "bold" if is_set else "dim")]
        listed.add_row(*row, *([Text(str(origin[name]), "" if is_set else "dim")] if sources else []))
    write(session.out, listed)
    return Exit.OK


def _value(settings: Settings, name: str) -> Any:
    """Return a value for programs: as it is, but passwords and paths as they are shown."""
    value = getattr(settings, name)
    return value if value is None or isinstance(value, _PLAIN) else settings.display(name)
