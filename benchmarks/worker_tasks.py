"""The tasks that our workers run."""

from __future__ import annotations

import millstream
from benchmarks import canvases, works

step = millstream.task(canvases.step)
pure = millstream.task(effect="pure", name="pure")(canvases.step)
native = millstream.task(effect="pure")(works.step_async)
total = millstream.task(canvases.total)
wait = millstream.task(works.wait_async)
burn = millstream.task(works.burn)
hold = millstream.task(works.hold_async)
hold_process = millstream.task(run_in="process")(works.hold)
