"""The figures as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.measure import Figure
from benchmarks.own import Own
from benchmarks.shapes import Shape
from benchmarks.starts import Start

WIDTH = 32
HEAD = f"{'one run':>12}{'fastest - slowest':>20}{'nodes/s':>12}{'ours = 1':>11}"


def shape_lines(shape: Shape, figures: Sequence[Figure], missing: Mapping[str, str]) -> str:
    """Return one shape's table; its last figure is how long a system takes, measured in our time (the first's)."""
    ours = figures[0].seconds if figures and figures[0].rounds else None
    lines = [f"{shape.title} ({shape.nodes:,} nodes)"]
    for figure in figures:
        if figure.rounds:
            ratio = "" if ours is None else f"{figure.seconds / ours:.2f}"
            lines.append(
                f"  {figure.title:<{WIDTH}}{ms(figure.seconds):>12}{spread(figure.rounds):>20}"
                f"{shape.nodes / figure.seconds:>12,.0f}{ratio:>11}{f'  {figure.note}' if figure.note else ''}"
            )
        else:
            lines.append(f"  {figure.title:<{WIDTH}}not measured: {figure.reason}")
    lines += [f"  {name:<{WIDTH}}not installed: {why}" for name, why in missing.items()]
    return "\n".join(lines)


def own_line(own: Own, figure: Figure) -> str:
    if not figure.rounds:
        return f"  {own.title:<70}not measured: {figure.reason}"
    each = figure.seconds / own.count
    return f"  {own.title:<70}{each * 1e6:>9,.1f} us{1 / each:>12,.0f}/s"


def rate_line(title: str, rates: Sequence[float]) -> str:
    return f"  {title:<{WIDTH}}{median(rates):>12,.1f}{f'{min(rates):,.1f} - {max(rates):,.1f}':>24}"


def start_line(start: Start) -> str:
    if start.reason is not None:
        return f"  {start.system:<{WIDTH}}not measured: {start.reason}"
    memory = "" if start.rss is None else f"{start.rss / 1e6:>10.1f} MB"
    return f"  {start.system:<{WIDTH}}{ms(min(start.import_seconds)):>12}{ms(min(start.first_seconds)):>15}{memory}"


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms"


def spread(rounds: Sequence[float]) -> str:
    return f"{min(rounds) * 1e3:,.2f} - {max(rounds) * 1e3:,.2f}"
