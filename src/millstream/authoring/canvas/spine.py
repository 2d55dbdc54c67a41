"""The shape of what a submitted canvas returns: which nodes its results stand for, and what came before them."""

from __future__ import annotations

import msgspec


class TaskSpine(msgspec.Struct, frozen=True, tag="task"):
    """What an `AsyncResult` is made of.

    Attributes:
        node: The node's id.
        parent: What came before it in its chain.
        id: The task id that it was given; empty for none.
    """

    node: str
    parent: Spine | None = None
    id: str = ""

    def task_id(self, job_id: str) -> str:
        """Return its task id in a job."""
        return self.id or f"{job_id}.{self.node}"


class GroupSpine(msgspec.Struct, frozen=True, tag="group"):
    """What a `GroupResult` is made of.

    Attributes:
        members: Its members, in order.
        parent: What came before it in its chain.
        id: The task id that the group was given; empty for none.
    """

    members: tuple[Spine, ...]
    parent: Spine | None = None
    id: str = ""


Spine = TaskSpine | GroupSpine
"""Of a chain the last task with its parents, of a group its members, of a chord its body behind its header."""
