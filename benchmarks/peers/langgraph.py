"""LangGraph without a checkpointer: a `StateGraph` whose state counts the nodes that ran."""

from __future__ import annotations

import asyncio
import operator
from importlib.metadata import version
from typing import Annotated, Any, ClassVar, TypedDict

from langgraph.graph import END, START, StateGraph

from benchmarks.shapes import Shape
from benchmarks.system import Once


class State(TypedDict):
    done: Annotated[int, operator.add]


async def noop(_: State) -> dict[str, int]:
    return {"done": 1}


def plain(_: State) -> dict[str, int]:
    return {"done": 1}


class LangGraph:
    title = f"LangGraph {version('langgraph')}"
    notes: ClassVar = {"plain": "a thread's hand-over per node"}

    def __init__(self) -> None:
        self._graphs: dict[str, Any] = {}

    async def open(self, shape: Shape) -> Once:
        if shape.name not in self._graphs:
            self._graphs[shape.name] = compiled(shape)
        graph = self._graphs[shape.name]
        nodes = len(shape.before)
        config = {"recursion_limit": nodes + 10}

        async def run() -> None:
            assert await graph.ainvoke({"done": 0}, config) == {"done": nodes}

        async def many() -> None:
            await asyncio.gather(*(run() for _ in range(shape.jobs)))

        return run if shape.jobs == 1 else many

    async def close(self) -> None:
        pass


def compiled(shape: Shape, saver: Any = None) -> Any:
    graph = StateGraph(State)
    for node, sources in enumerate(shape.before):
        graph.add_node(f"n{node}", _work(shape))
        match sources:
            case []:
                graph.add_edge(START, f"n{node}")
            case [source]:
                graph.add_edge(f"n{source}", f"n{node}")
            case _:
                graph.add_edge([f"n{source}" for source in sources], f"n{node}")
    for node in shape.leaves:
        graph.add_edge(f"n{node}", END)
    return graph.compile(saver)


def _work(shape: Shape) -> Any:
    if not shape.wait_seconds:
        return plain if shape.is_plain else noop

    async def wait(_: State) -> dict[str, int]:
        await asyncio.sleep(shape.wait_seconds)
        return {"done": 1}

    return wait
