"""`python -m millstream`, and what the installed program `millstream` calls."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process, and return its exit code."""
    from millstream.cli.program import main as run  # noqa: PLC0415  only who runs it pays for its import

    return run()


if __name__ == "__main__":
    sys.exit(main())
