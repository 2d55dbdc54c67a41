"""Play canvases on real Celery and on millstream, side by side: the corpus, and random ones.

python -m tests.differential --cases 300 --seed 7
python -m tests.differential --record      # write down anew what Celery makes of the corpus
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from itertools import islice

from tests.differential import corpus
from tests.differential.agreement import differences
from tests.differential.canvases import Case
from tests.differential.celery_side import CelerySide
from tests.differential.our_side import OurSide
from tests.differential.outcomes import Played
from tests.differential.random_canvases import cases, smaller

_MOST_DIFFERENT = 10
_MOST_STEPS = 300


def main() -> int:
    """Play, print what differs, and return 1 where something did."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--cases", type=int, default=300, help="how many random canvases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="write down what Celery makes of the corpus")
    options = parser.parse_args()
    with CelerySide() as celery:
        if options.record:
            record(celery)
            return 0
        with OurSide() as ours:
            wrong = outdated(celery) + different(celery, ours, options.seed, options.cases)
    sys.stdout.write(f"{options.cases} random canvases, seed {options.seed}: {wrong} differences\n")
    return 1 if wrong else 0


def record(celery: CelerySide) -> None:
    """Let Celery play the corpus, and write down what came of it."""
    entries = corpus.read()
    for entry in entries.values():
        entry["celery"] = celery.play(entry["case"])
    corpus.write(entries)


def outdated(celery: CelerySide) -> int:
    """Print which recorded answers Celery gives no more, and return how many."""
    changed = [title for title, entry in corpus.read().items() if celery.play(entry["case"]) != entry["celery"]]
    sys.stdout.writelines(f"Celery's answer has changed: {title}\n" for title in changed)
    return len(changed)


def different(celery: CelerySide, ours: OurSide, seed: int, count: int) -> int:
    """Print which random canvases end differently, each as small as it can be made, and return how many."""

    def played(case: Case) -> tuple[Played, Played]:
        return celery.play(case), ours.play(case)

    found = 0
    for case in islice(cases(seed), count):
        if differences(*played(case)):
            found += 1
            small = smallest(case, played)
            told = "".join(f"  {line}\n" for line in differences(*played(small)))
            sys.stdout.write(f"\n{json.dumps(small)}\n{told}")
            sys.stdout.flush()
        if found == _MOST_DIFFERENT:
            break
    return found


def smallest(case: Case, played: Callable[[Case], tuple[Played, Played]]) -> Case:
    """Return a smaller case that still differs: where the steps suffice, one of which no smaller one does.

    Whoever refuses the case, or does not, is to do so with the smaller one too: else it shrinks to what is only wrong.
    """

    def refusals(found: tuple[Played, Played]) -> list[bool]:
        return ["raises" in one["outcome"] for one in found]

    expected = refusals(played(case))
    steps = smaller(case)
    for _ in range(_MOST_STEPS):
        candidate = next(steps, None)
        if candidate is None:
            break
        found = played(candidate)
        if refusals(found) == expected and differences(*found):
            case, steps = candidate, smaller(candidate)
    return case


if __name__ == "__main__":
    sys.exit(main())
