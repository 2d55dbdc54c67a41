"""What real Celery made of chosen canvases, millstream makes of them too; where not, the corpus says why."""

from collections.abc import Iterator

import pytest

from tests.differential import corpus
from tests.differential.agreement import differences
from tests.differential.our_side import OurSide

ENTRIES = corpus.read()
SAME = {title: entry for title, entry in ENTRIES.items() if "deviation" not in entry}
OTHER = {title: entry for title, entry in ENTRIES.items() if "deviation" in entry}


@pytest.fixture(scope="module")
def ours() -> Iterator[OurSide]:
    with OurSide() as side:
        yield side


@pytest.mark.parametrize("title", SAME)
def test_a_canvas_ends_as_on_celery(title: str, ours: OurSide) -> None:
    assert differences(SAME[title]["celery"], ours.play(SAME[title]["case"])) == []


@pytest.mark.parametrize("title", OTHER)
def test_a_canvas_ends_otherwise_than_on_celery_only_as_said(title: str, ours: OurSide) -> None:
    entry = OTHER[title]
    told = ours.play(entry["case"])
    assert told["outcome"] == entry["deviation"]["played"]["outcome"]
    assert sorted(map(str, told["notes"])) == sorted(map(str, entry["deviation"]["played"]["notes"]))
    assert differences(entry["celery"], told), "a deviation that is none: take it off"
    assert entry["deviation"]["why"]


def test_the_corpus_is_large() -> None:
    assert len(SAME) > 200
