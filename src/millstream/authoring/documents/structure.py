"""The components that shape a document beside its tasks: the engine itself acts at them, and they have no code."""

from __future__ import annotations

from typing import Final

from millstream.model.component import Component, Port

GROUP: Final = "Flow control"
MAX_TURNS: Final = 100_000
MAX_WAIT: Final = 366 * 86_400

LOOP: Final = Component(
    name="Loop",
    title="Loop",
    group=GROUP,
    icon="repeat",
    description="Repeat the nodes inside it until one of them says that it is done.",
    kind="loop",
    inputs=(
        Port(name="value", title="First value", description="What the first turn begins with.", is_required=True),
        Port(
            name="next",
            title="Next value",
            description="What the next turn begins with, from a node inside.",
            is_required=True,
            is_inner=True,
        ),
        Port(
            name="done",
            title="Done",
            description="From a node inside: whether this was the last turn.",
            is_required=True,
            is_inner=True,
        ),
        Port(
            name="max_turns",
            type="number",
            title="Most turns",
            description="More turns than this fail it.",
            schema={"type": "integer", "minimum": 1, "maximum": MAX_TURNS},
            default=1000,
            is_fixed=True,
        ),
    ),
    outputs=(
        Port(
            name="current",
            title="Current value",
            description="What this turn begins with: for nodes inside.",
            is_inner=True,
        ),
        Port(name="result", title="Result", description="The last `next`."),
    ),
)

MERGE: Final = Component(
    name="Merge",
    title="Merge",
    group=GROUP,
    icon="merge",
    description="Go on with the first of its inputs whose way was chosen.",
    kind="merge",
    inputs=(Port(name="values", title="Values", is_required=True, is_many=True),),
    outputs=(Port(name="result", title="Result"),),
)

WAIT: Final = Component(
    name="Wait",
    title="Wait",
    group=GROUP,
    icon="timer",
    description="Wait for a time, then pass the value on; nothing is held meanwhile.",
    kind="wait",
    inputs=(
        Port(name="value", title="Value", description="What is passed on.", default=None),
        Port(
            name="seconds",
            type="number",
            title="Seconds",
            schema={"type": "number", "minimum": 0, "maximum": MAX_WAIT},
            default=1,
        ),
    ),
    outputs=(Port(name="value", title="Value"),),
)

APPROVAL: Final = Component(
    name="HumanApproval",
    title="Human approval",
    group=GROUP,
    icon="user-check",
    description="Wait for a person's answer.",
    kind="approval",
    inputs=(Port(name="question", title="Question", description="What is shown to whoever answers.", default=None),),
    outputs=(Port(name="answer", title="Answer"),),
)

SUBFLOW: Final = Component(
    name="Subflow",
    title="Sub-flow",
    group=GROUP,
    icon="workflow",
    description="Run another flow document in this node's place.",
    kind="subflow",
    inputs=(
        Port(
            name="flow",
            type="text",
            title="Flow",
            description="Id of the flow.",
            schema={"type": "string"},
            is_required=True,
            is_fixed=True,
        ),
        Port(name="input_value", title="Input", description="What its inputs get; without, they keep their own."),
    ),
    outputs=(
        Port(name="result", title="Result", description="What its only output gives, or the first of them."),
        Port(name="outputs", type="data", title="Outputs", description="What each of its outputs gives, by node id."),
    ),
)

STRUCTURE: Final = (LOOP, MERGE, WAIT, APPROVAL, SUBFLOW)
