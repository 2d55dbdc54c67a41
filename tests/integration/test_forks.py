"""Children that are forked while their parent writes can use the ledger like anybody else."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os
import threading

from millstream import task


@task
def add(x, y):
    return x + y


def child():
    try:
        is_right = add.delay(1, 1).get(timeout=60) == 2
    except Exception:
        is_right = False
    os._exit(not is_right)


if __name__ == "__main__":
    add.delay(0, 0).get(timeout=120)
    is_over = threading.Event()

    def write():
        while not is_over.is_set():
            add.delay(1, 2).get(timeout=120)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    ends = []
    for _ in range(12):
        pid = os.fork()
        if not pid:
            child()
        ends.append(os.waitpid(pid, 0)[1])
    is_over.set()
    for writer in writers:
        writer.join()
    print(ends)
"""


def test_a_child_that_is_forked_while_its_parent_writes_has_jobs_of_its_own(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.splitlines()[-1:], done.returncode) == ([str([0] * 12)], 0), done.stderr
