"""Write the table of Celery's settings into docs/howto/move-from-celery.md, from the code that reads them.

`celery_settings.py --check` fails where the page says anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from millstream.compat.conf_catalogue import SETTINGS, Setting, Standing

PAGE = Path(__file__).resolve().parent.parent / "docs" / "howto" / "move-from-celery.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"


def table() -> str:
    """Return the table, settings that mean the same on one line."""
    return "".join(lines())


def lines() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| settings | standing | what that means |\n|---|---|---|\n"
    for standing in Standing:
        found = [setting for setting in SETTINGS.values() if setting.standing is standing]
        for says, alike in groupby(found, key=_says):
            names = ", ".join(f"`{setting.name}`" for setting in sorted(alike, key=_name))
            yield f"| {names} | {standing} | {says} |\n"


def _says(setting: Setting) -> str:
    return setting.says


def _name(setting: Setting) -> str:
    return setting.name


def written(page: str) -> str:
    """Return the page with the table as it now is."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def main() -> int:
    """Write the page, or check it."""
    page = PAGE.read_text(encoding="utf-8")
    wanted = written(page)
    if "--check" not in sys.argv:
        PAGE.write_text(wanted, encoding="utf-8")
    elif page != wanted:
        print(f"{PAGE.name} says something else of Celery's settings than the code; run scripts/celery_settings.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
