"""An agent in a loop: it thinks, acts, and thinks again until it knows the answer.

    millstream run examples/agent.py -i question='What is (1 + 2) * (10 - 4) / 4?'

An `async def` flow conducts: its body is ordinary Python that runs while the job runs, and each task that it awaits is
recorded. There is no model behind this agent: it "thinks" by looking for the parts of a sum that can be worked out at
once, and "acts" by working out all of them concurrently, as an agent would call its tools.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from millstream import ctx, flow, task


@task
def read(question: str) -> str:
    """Return the sum that a question asks for."""
    found: list[str] = re.findall(r"[(\d][\d\s.()*/+-]*", question)
    if not found:
        raise ValueError(f"there is nothing to work out in {question!r}")
    return max(found, key=len).strip(" .")


@task
def think(expression: str) -> list[str]:
    """Return the parts that can be worked out now, all at once; none when only a value is left."""
    if re.fullmatch(r"r\d+", expression):
        return []
    return list(dict.fromkeys(re.findall(r"\([^()]*\)", expression))) or [expression]


@task
async def act(part: str, memory: dict[str, str]) -> str:
    """Work out a part that has no brackets inside."""
    left = deque(re.findall(r"r\d+|\d+(?:\.\d+)?|\S", part.strip("()")))
    values = [_value(left, memory)]
    while left:
        match left.popleft():
            case "+":
                values.append(_value(left, memory))
            case "-":
                values.append(-_value(left, memory))
            case "*":
                values[-1] *= _value(left, memory)
            case "/":
                values[-1] /= _value(left, memory)
            case other:
                raise ValueError(f"{other!r} makes no sense in {part!r}")
    return str(sum(values))


def _value(left: deque[str], memory: Mapping[str, str]) -> Fraction:
    word = left.popleft() if left else "nothing"
    if word == "-":
        return -_value(left, memory)
    return Fraction(memory.get(word, word))


@flow
async def agent(question: str = "What is (1 + 2) * (10 - 4) / 4?") -> dict[str, Any]:
    """Answer a question about a sum; the result says the answer and how it was found."""
    expression = await read(question)
    memory: dict[str, str] = {}
    steps: list[dict[str, str]] = []
    while parts := await think(expression):
        ctx.progress(len(steps), message=expression)
        found = await asyncio.gather(*(act(part, dict(memory)) for part in parts))
        for part, value in zip(parts, found, strict=True):
            name = f"r{len(memory) + 1}"
            memory[name] = value
            expression = expression.replace(part, name)
        steps.append(dict(zip(parts, found, strict=True)))
    return {"question": question, "answer": memory[expression], "steps": steps}


if __name__ == "__main__":
    print(agent.run())
