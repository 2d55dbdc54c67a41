"""Who looks at interactive jobs, in Redis: a hash for each job, with a heartbeat of each process that has readers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from redis.exceptions import ResponseError

from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Link, RedisUnavailableError
from millstream.ledger.activity import ActivityUnavailableError, Look, Sighting
from millstream.log import get_logger

_log = get_logger("millstream.events")

_KINDS: Final = {
    "open": Look(is_open=True),
    "left": Look(is_open=False),
    "open-polled": Look(is_open=True, is_polled=True),
    "left-polled": Look(is_open=False, is_polled=True),
}
_NAMES: Final = {look: kind for kind, look in _KINDS.items()}
_KEPT_SECONDS: Final = 24 * 3600
"""Of a job that goes on; at its end it gets the time that its events are kept."""

_AT_ONCE: Final = 500

# A heartbeat is `<kind> <seconds of Redis' clock>`. Effects are replicated, so the time is the same on replicas.
_TOUCH: Final = """
local now = redis.call('TIME')
local at = now[1] .. '.' .. string.format('%06d', now[2])
for i, key in ipairs(KEYS) do
  if redis.call('TYPE', key).ok ~= 'hash' then  -- none, or one that is not ours: it must not stop all others
    redis.call('DEL', key)
  end
  redis.call('HSET', key, ARGV[1], ARGV[i + 2] .. ' ' .. at)
  redis.call('EXPIRE', key, ARGV[2])
end
"""


class RedisActivity:
    """Keeps it in Redis; see `Activity` for what its methods promise.

    Args:
        link: Where Redis is.
        keys: The names there.

    Attributes:
        touch_errors: How often a heartbeat could not be written.
        get_errors: How often heartbeats could not be read.
        parse_errors: How many heartbeats were none; whoever wrote one is taken to look.
    """

    def __init__(self, link: Link, keys: Keys) -> None:
        """Know of nobody yet."""
        self._link, self._keys = link, keys
        self.touch_errors = self.get_errors = self.parse_errors = 0

    async def touch(self, process: str, looks: Mapping[str, Look]) -> None:
        """Take what a process says; see `Activity.touch`."""
        said = list(looks.items())
        commands: list[list[str | bytes | float]] = []
        for first in range(0, len(said), _AT_ONCE):
            some = said[first : first + _AT_ONCE]
            keys = [self._keys.activity(job_id) for job_id, _ in some]
            kinds = [_NAMES[look] for _, look in some]
            commands.append(["EVAL", _TOUCH, len(keys), *keys, process, _KEPT_SECONDS, *kinds])
        try:
            await self._link.commands.pipeline(commands)
        except RedisUnavailableError as error:
            self.touch_errors += 1
            raise ActivityUnavailableError(f"who looks at jobs cannot be recorded: {error}") from error

    async def seen(self, job_ids: Collection[str]) -> dict[str, list[Sighting]]:
        """Return what was said; see `Activity.seen`."""
        ids = list(job_ids)
        found: dict[str, list[Sighting]] = {}
        for first in range(0, len(ids), _AT_ONCE):
            some = ids[first : first + _AT_ONCE]
            commands: list[list[str]] = [["TIME"], *(["HGETALL", self._keys.activity(job_id)] for job_id in some)]
            try:
                time, *said = answers = await self._link.commands.attempt(commands)
                refused = next(filter(_is_refusal, answers), None)
                if refused is not None:
                    raise RedisUnavailableError(f"Redis refuses a command: {refused}")  # noqa: TRY301  as if it was away
            except RedisUnavailableError as error:
                self.get_errors += 1
                raise ActivityUnavailableError(f"nobody can say who looks at jobs: {error}") from error
            now = int(time[0]) + int(time[1]) / 1e6
            for job_id, fields in zip(some, said, strict=True):
                if isinstance(fields, ResponseError):
                    found[job_id] = [self._sighting(b"?", str(fields).encode(), now)]
                elif fields:
                    beats = zip(fields[::2], fields[1::2], strict=True)
                    found[job_id] = [self._sighting(process, beat, now) for process, beat in beats]
        return found

    def _sighting(self, process: bytes, beat: Any, now: float) -> Sighting:
        name = process.decode(errors="replace")
        try:
            kind, at = beat.decode().split(" ")
            look, age = _KINDS[kind], now - float(at)
        except (ValueError, KeyError):
            self.parse_errors += 1
            _log.warning("a heartbeat in Redis is none; somebody is taken to look", process=name, found=repr(beat[:80]))
            return Sighting(name, Look(is_open=True), 0.0)
        return Sighting(name, look, max(0.0, age))  # the clock of a replica that took over may be behind


def _is_refusal(answer: Any) -> bool:
    """Whether Redis does not answer just now; a key of another type is one job's matter."""
    return isinstance(answer, ResponseError) and "WRONGTYPE" not in str(answer)
