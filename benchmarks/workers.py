"""Our workers beside Celery's: the same canvases and tasks, on the same broker server, scene by scene and in turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles
from typing import Any

from benchmarks import measure, report
from benchmarks.measure import Figure, Worker
from benchmarks.scenes import CELERY, SCENES, Scene


def play(rounds: int, scenes: Sequence[Scene] = SCENES, *, on_rabbitmq: bool = False) -> dict[str, Any]:
    """Measure all systems in all scenes, and print a table."""
    title = f"Through workers, {'RabbitMQ' if on_rabbitmq else 'Valkey'}"
    print(f"\n{title:<{report.WIDTH + 2}}{'median':>14}{'lowest - highest':>20}{'Celery = 1':>20}")
    raw: dict[str, Any] = {}
    systems = list(dict.fromkeys(name for scene in scenes for name in scene.systems))
    with started(systems, on_rabbitmq=on_rabbitmq) as (workers, missing):
        for scene in scenes:
            figures = _taken(scene, {name: workers[name] for name in scene.systems if name in workers}, rounds)
            print(_lines(scene, figures, missing), flush=True)
            raw[scene.name] = [figure.plain() for figure in figures.values()]
    return raw | {"missing": missing}


@contextmanager
def started(systems: Sequence[str], *, on_rabbitmq: bool = False) -> Iterator[tuple[dict[str, Worker], dict[str, str]]]:
    """Give the processes of systems with their workers, all on one broker server; and why others are not there."""
    from tests.rabbitmq import RabbitMQServer  # noqa: PLC0415  nothing else needs it
    from tests.valkey import ValkeyServer  # noqa: PLC0415  as above

    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer())
        rabbitmq = stack.enter_context(RabbitMQServer()) if on_rabbitmq else None
        workers, missing = measure.start(systems)
        try:
            for number, (name, worker) in enumerate(list(workers.items())):
                results = server.url_of(number)
                broker = results if rabbitmq is None else stack.enter_context(rabbitmq.vhost())
                try:
                    worker.ask(do="begin", broker=broker, results=results)
                except measure.WorkerFailedError as why:
                    missing[name] = str(why)
                    workers.pop(name).close()
            yield workers, missing
        finally:
            for worker in workers.values():
                worker.close()


def _taken(scene: Scene, workers: Mapping[str, Worker], rounds: int) -> dict[str, Figure]:
    figures = {name: Figure(name, worker.title) for name, worker in workers.items()}
    for turn in range(0 if scene.is_long else -1, rounds):
        names = [name for name in workers if figures[name].reason is None]
        shift = turn % max(len(names), 1)
        for name in names[shift:] + names[:shift]:
            try:
                taken = workers[name].ask(do="scene", name=scene.name)["figures"]
            except measure.WorkerFailedError as why:
                figures[name].reason = f"failed: {why}"
            else:
                if turn >= 0:
                    figures[name].rounds += taken
    return figures


def _lines(scene: Scene, figures: Mapping[str, Figure], missing: Mapping[str, str]) -> str:
    lines = [scene.title + (f" (wanted: {scene.target})" if scene.target else "")]
    celery = figures.get(CELERY)
    for name, figure in figures.items():
        if not figure.rounds:
            lines.append(f"  {figure.title:<{report.WIDTH}}not measured: {figure.reason}")
            continue
        line = f"  {figure.title:<{report.WIDTH}}{_shown(scene, figure.rounds)}"
        if celery is not None and celery.rounds and name != CELERY:
            faster = celery.seconds / figure.seconds
            line += f"{(faster if scene.unit in ('seconds', 'trips') else 1 / faster):>18.2f} x"
        lines.append(line)
    lines += [f"  {name:<{report.WIDTH}}not there: {why}" for name, why in missing.items() if name in scene.systems]
    return "\n".join(lines)


def _shown(scene: Scene, rounds: Sequence[float]) -> str:
    middle, low, high = median(rounds), min(rounds), max(rounds)
    match scene.unit:
        case "seconds":
            return f"{report.ms(middle):>14}{report.spread(rounds):>20}"
        case "trips":
            return f"{report.ms(middle):>14}{f'p95 {report.ms(quantiles(rounds, n=20)[-1])}':>20}"
        case "rate":
            return f"{f'{middle:,.0f}/s':>14}{f'{low:,.0f} - {high:,.0f}':>20}"
        case "share":
            return f"{middle:>14.3f}{f'{low:.3f} - {high:.3f}':>20}"
