"""Shows on standard error how a job goes: a live bar on a terminal, elsewhere only what its tasks log."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from millstream.cli.session import console_for
from millstream.cli.streams import lines_to
from millstream.cli.tally import Tally
from millstream.model.event import Event

_DELAY_SECONDS = 0.3  # a job that is over by then needs no bar
_BAR_WIDTH = 32
_ROOM_BESIDE_BAR = 60
_PROGRESS_LINES = 4
_PATH_WIDTH = 24
_LEVEL_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}
_OWN_FIELDS = {"level", "message"}


class LogView:
    """Writes what tasks log, a line each.

    Args:
        console: Where to.
        is_debugging: Whether lines of level `debug` are shown too.
    """

    def __init__(self, console: Console, *, is_debugging: bool) -> None:
        """Start with nothing shown."""
        self.console = console
        self.tally = Tally()
        self._is_debugging = is_debugging
        self._has_started = False
        self._path_width = 0

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Show the job within the block."""
        yield

    def take(self, event: Event) -> None:
        """Count an event, and show what is to be read at once."""
        self.tally.take(event)
        match event:
            case Event(type="started"):
                self._has_started = True
            case Event(type="log", data=told) if told.get("level") != "debug" or self._is_debugging:
                fields = {key: value for key, value in told.items() if key not in _OWN_FIELDS}
                self._say(event, str(told["message"]), _LEVEL_STYLES.get(told["level"], ""), fields)
            case Event(type="waiting", data={"reason": "approval", "question": question}):
                self._say(event, f"waits for an approval: {question if question is not None else '…'}", "yellow", {})

    def remind_of_workers(self) -> None:
        """Say so if no worker has taken the job yet."""
        if not self._has_started:
            told = "no worker has taken the job yet: is one running on this ledger and broker, that imports its module?"
            self.console.print(f"millstream: {told}", style="yellow", soft_wrap=True)

    def stopping(self) -> None:
        """Say that the job was asked to stop; called in a signal's handler, so that no buffer may be touched."""
        os.write(self.console.file.fileno(), b"millstream: cancelling; a second signal kills at once\n")

    def restore(self) -> None:
        """Leave the terminal as it was, when the program is about to be killed."""

    def _say(self, event: Event, message: str, style: str, fields: dict[str, Any]) -> None:
        path = event.node or ""
        self._path_width = min(max(self._path_width, len(path)), _PATH_WIDTH)
        line = Text.assemble(
            (time.strftime("%H:%M:%S", time.localtime(event.at)), "dim"),
            "  ",
            (path.ljust(self._path_width), "cyan"),
            "  ",
            (message, style),
        )
        for key, value in fields.items():
            line.append(f"  {key}={value}", "dim")
        self.console.print(line, soft_wrap=True)


class LiveView(LogView):
    """Shows a bar at the bottom of the terminal, and above it what tasks log and print.

    Args:
        name: What the job is called.
        is_open_ended: Whether nobody can know how many nodes there will be: the flow conducts.
        is_debugging: Whether log lines of level `debug` are shown too.
    """

    def __init__(self, name: str, *, is_open_ended: bool, is_debugging: bool) -> None:
        """Take the terminal that standard error now is; it stays the same when standard error is led elsewhere."""
        descriptor = os.dup(sys.stderr.fileno())
        super().__init__(console_for(os.fdopen(descriptor, "w", encoding="utf-8")), is_debugging=is_debugging)
        self._name = name
        self._is_open_ended = is_open_ended
        self._is_stopping = False
        self._began = time.monotonic()
        self._live = Live(
            get_renderable=self._render,
            console=self.console,
            transient=True,
            refresh_per_second=12,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Show the job within the block; what is printed meanwhile goes above the bar."""
        timer = threading.Timer(_DELAY_SECONDS, self._live.start)  # a task may block the loop
        timer.daemon = True
        timer.start()
        try:
            with lines_to(lambda line: self.console.print(Text.from_ansi(line), soft_wrap=True)):
                yield
        finally:
            timer.cancel()
            timer.join()
            self._live.stop()

    def stopping(self) -> None:
        """Let the bar say that the job was asked to stop."""
        self._is_stopping = True

    def restore(self) -> None:
        """Show the cursor again, below the bar."""
        os.write(self.console.file.fileno(), b"\x1b[?25h\r\n")

    def _render(self) -> RenderableType:
        elapsed = time.monotonic() - self._began
        tally, room = self.tally, self.console.width - _ROOM_BESIDE_BAR
        bar = ProgressBar(
            total=None if self._is_open_ended else 1.0,
            completed=tally.share,
            width=max(8, min(_BAR_WIDTH, room)),
            complete_style="cyan",
            finished_style="cyan",
            pulse_style="cyan",
        )
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(Text(self._name, "bold"), bar, self._counts(), self._clock(elapsed))
        heard = list(tally.progress.items())[-_PROGRESS_LINES:]
        inside = Table.grid(padding=(0, 2, 0, 0))
        for path, progress in heard:
            total = "" if progress.total is None else f"/{progress.total:g}"
            inside.add_row(Text(path, "cyan"), f"{progress.done:g}{total}", Text(progress.message or "", "dim"))
        return Group(line, Padding(inside, (0, 0, 0, 2))) if heard else line

    def _counts(self) -> Text:
        tally = self.tally
        done = f"{tally.done:,}" if self._is_open_ended else f"{tally.done:,}/{tally.total:,}"
        parts = [Text(done)]
        for count, word, style in (
            (len(tally.running), "running", ""),
            (len(tally.waiting), "waiting", ""),
            (tally.failed, "failed", "red"),
        ):
            if count:
                parts.append(Text(f"{count:,} {word}", style))
        return Text("  ").join(parts)

    def _clock(self, elapsed: float) -> Text:
        if self._is_stopping:
            return Text("cancelling; another Ctrl-C kills at once", "yellow")
        left = None if self._is_open_ended else self.tally.eta(elapsed)
        eta = "" if left is None else f"  eta {clock(left)}"
        return Text(f"{clock(elapsed)}{eta}", "dim")


def clock(seconds: float) -> str:
    """Return seconds as a clock shows them.

    >>> clock(3725.2), clock(12)
    ('1:02:05', '0:12')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
