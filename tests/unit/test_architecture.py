"""ARCHITECTURE.md describes the code that is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
IN_BACKTICKS = set(re.findall(r"`([^`\s]+)`", PAGE))
PATHS = sorted(name for name in IN_BACKTICKS if re.match(r"(src|tests|docs|examples|benchmarks|scripts)/", name))


def parts_of_the_package() -> list[str]:
    """Return the top-level modules and packages of millstream, as ARCHITECTURE.md writes them."""
    package = ROOT / "src" / "millstream"
    modules = [p.name for p in package.glob("*.py") if p.stem != "__init__"]
    packages = [f"{p.name}/" for p in package.iterdir() if p.is_dir() and any(p.glob("*.py"))]
    return sorted(modules + packages)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_named_exists(path: str) -> None:
    assert list(ROOT.glob(path.rstrip("/"))), f"ARCHITECTURE.md names {path}, which does not exist"


@pytest.mark.parametrize("part", parts_of_the_package())
def test_every_part_of_the_package_is_named(part: str) -> None:
    named = {name.removeprefix("src/millstream/") for name in IN_BACKTICKS}
    assert any(name.startswith(part) for name in named), f"ARCHITECTURE.md does not name {part}"
