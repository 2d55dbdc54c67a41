"""The names of everything in Redis: keys and channels, each beginning with the ledger that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The names that the processes of one ledger use.

    Attributes:
        ledger: Id of the ledger (see `Identity`): several may use one database of Redis.

    Example:
        >>> Keys("0198").stream("01ab")
        'millstream:0198:job:01ab:events'
    """

    ledger: str

    @property
    def prefix(self) -> str:
        """What every name begins with."""
        return f"millstream:{self.ledger}:"

    def stream(self, job_id: str) -> str:
        """Return the key of a job's events: a stream, whose ids are their cursors."""
        return f"{self.prefix}job:{job_id}:events"

    def state(self, job_id: str) -> str:
        """Return the key of what the append script knows of a job: a hash."""
        return f"{self.prefix}job:{job_id}:state"

    @property
    def states(self) -> str:
        """The pattern of the keys that `state` returns."""
        return self.state("*")

    def job_of(self, state: str) -> str:
        """Return the job of a key that `state` returned.

        >>> Keys("0198").job_of(Keys("0198").state("01ab"))
        '01ab'
        """
        return state.rsplit(":", 2)[1]

    @property
    def sweep(self) -> str:
        """The key that says that a process looks through the others."""
        return f"{self.prefix}sweep"

    @property
    def probe(self) -> str:
        """The key that is written to find out whether Redis takes anything."""
        return f"{self.prefix}probe"

    @property
    def wake(self) -> str:
        """The channel that tells which jobs have new events: `<publisher> <job id> <job id> …`."""
        return f"{self.prefix}wake"

    def activity(self, job_id: str) -> str:
        """Return the key of who looks at a job: a hash of heartbeats, one for each process."""
        return f"{self.prefix}job:{job_id}:activity"

    def of_job(self, job_id: str) -> tuple[str, str, str]:
        """Return the keys that go some time after a job's end: `stream`, `state` and `activity`."""
        return self.stream(job_id), self.state(job_id), self.activity(job_id)

    def cancel_marker(self, job_id: str) -> str:
        """Return the key that says for a while that a job is cancelled."""
        return f"{self.prefix}job:{job_id}:cancel"

    @property
    def cancels(self) -> str:
        """The channel that tells which job is cancelled: its id."""
        return f"{self.prefix}cancels"

    def process(self, process: str) -> str:
        """Return the key of what a process tells of itself."""
        return f"{self.prefix}process:{process}"

    @property
    def processes(self) -> str:
        """The key of the ids of the processes that tell something of themselves: a set."""
        return f"{self.prefix}processes"
