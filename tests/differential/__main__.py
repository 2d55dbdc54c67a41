"""Play canvases on real Celery and on millstream, side by side: the corpus, and random ones.

python -m tests.differential --cases 500 --seed 7
python -m tests.differential --record      # write down anew what Celery makes of the corpus
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice

from tests.differential import corpus
from tests.differential.agreement import differences
from tests.differential.canvases import Case
from tests.differential.celery_side import CelerySide
from tests.differential.our_side import OurSide
from tests.differential.random_canvases import cases, smaller

_MOST_DIFFERENT = 10


def main() -> int:
    """Play, print what differs, and return 1 where something did."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--cases", type=int, default=500, help="how many random canvases")
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
    found = 0
    for case in islice(cases(seed), count):
        if differences(celery.play(case), ours.play(case)):
            found += 1
            small = smallest(celery, ours, case)
            told = differences(celery.play(small), ours.play(small))
            sys.stdout.write(f"\n{json.dumps(small)}\n" + "".join(f"  {line}\n" for line in told))
            sys.stdout.flush()
        if found == _MOST_DIFFERENT:
            break
    return found


def smallest(celery: CelerySide, ours: OurSide, case: Case) -> Case:
    """Return a case that still differs, and of which no smaller one does."""
    for candidate in smaller(case):
        if differences(celery.play(candidate), ours.play(candidate)):
            return smallest(celery, ours, candidate)
    return case


if __name__ == "__main__":
    sys.exit(main())
