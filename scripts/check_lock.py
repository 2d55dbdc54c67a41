"""Fail where uv.lock no longer says what pyproject.toml asks for, or names anything but the public registry.

Works without network and without uv, so it answers the same on every machine.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org"}


def asked(project: dict[str, Any]) -> set[str]:
    """Return the requirements that pyproject.toml declares, each written one way."""
    lists = [
        project["project"]["dependencies"],
        *project["project"].get("optional-dependencies", {}).values(),
        *project.get("dependency-groups", {}).values(),
    ]
    requirements = [Requirement(line) for lines in lists for line in lines]
    return {written(r.name, r.extras, str(r.specifier)) for r in requirements}


def locked(lock: dict[str, Any], name: str) -> set[str]:
    """Return the requirements that uv.lock was made from, each written one way."""
    metadata = next(p for p in lock["package"] if p["name"] == name)["metadata"]
    lists = [metadata.get("requires-dist", []), *metadata.get("requires-dev", {}).values()]
    return {written(r["name"], set(r.get("extras", [])), r.get("specifier", "")) for rows in lists for r in rows}


def written(name: str, extras: set[str], specifier: str) -> str:
    """Return one requirement in the form in which two of them are compared."""
    return f"{canonicalize_name(name)}[{','.join(sorted(extras))}]{','.join(sorted(specifier.split(',')))}"


def complaints(project_text: str, lock_text: str) -> list[str]:
    """Return what is wrong with the lock file, one line each."""
    project = tomllib.loads(project_text)
    difference = asked(project) ^ locked(tomllib.loads(lock_text), project["project"]["name"])
    found = [f"uv.lock and pyproject.toml differ in {line}: run `uv lock`" for line in sorted(difference)]
    strangers = set(re.findall(r"https?://([^/\"]+)", lock_text)) - PUBLIC_HOSTS
    found += [f"uv.lock names {host}: lock against the public registry" for host in sorted(strangers)]
    if "file://" in lock_text:
        found.append("uv.lock names a path of one machine: lock against the public registry")
    return found


def main() -> int:
    """Print what is wrong and return the exit code."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "uv.lock")]
    found = complaints(*texts)
    print("\n".join(found) or "Lock file: as pyproject.toml asks, public registry only.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
