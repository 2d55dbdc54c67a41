"""What is to be done in forked children is done there for what lives, and forgotten with what does not."""

import gc
import os

import pytest

from millstream.ledger import fork


class Lock:
    def __init__(self) -> None:
        self.pid = os.getpid()
        fork.call_in_child(self.drop)

    def drop(self) -> None:
        self.pid = 0


def test_an_object_that_is_gone_leaves_nothing_behind() -> None:
    gc.collect()
    before = len(fork._known)
    locks = [Lock() for _ in range(100)]
    assert len(fork._known) == before + 100
    del locks
    gc.collect()
    assert len(fork._known) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_lives_is_called_in_the_child_and_not_in_the_parent() -> None:
    lock = Lock()
    child = os.fork()
    if child == 0:
        os._exit(lock.pid)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert lock.pid == os.getpid()
