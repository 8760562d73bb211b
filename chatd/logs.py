"""Log lines: one event, one line on stderr, ``key=value`` after the time, the level and the event."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

from .limits import Rate


def line(now: datetime, level: str, event: str, fields: dict[str, object]) -> str:
    """One log line. Values with spaces, quotes or control characters are JSON strings.

    >>> line(datetime(2030, 1, 2, tzinfo=UTC), "info", "listening", {"url": "ws://[::1]:1/ws", "why": "a b"})
    '2030-01-02T00:00:00.000Z info listening url=ws://[::1]:1/ws why="a b"'
    """
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"
    return " ".join([stamp, level, event, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(character in text for character in ' "=')
    return text if plain else json.dumps(text)


class Throttle:
    """Lets some lines through and counts the rest: what any client can cause must not fill a disk.

    >>> throttle = Throttle(per_s=1, burst=2)
    >>> [throttle.pass_on(now) for now in (5.0, 5.0, 5.0, 5.0, 6.0)]
    [0, 0, None, None, 2]
    """

    def __init__(self, *, per_s: float = 10, burst: int = 100) -> None:
        self._rate = Rate(per_s, burst)
        self._full_at = 0.0
        self._skipped = 0

    def pass_on(self, now: float) -> int | None:
        """None: be silent. Otherwise speak, and say how many were skipped before."""
        wait_s, self._full_at = self._rate.take(self._full_at, now)
        if wait_s:
            self._skipped += 1
            return None
        skipped, self._skipped = self._skipped, 0
        return skipped


def log(event: str, *, level: str = "info", **fields: object) -> None:
    """Write one line to stderr. A log that cannot be written is no reason to stop serving."""
    try:
        print(line(datetime.now(UTC), level, event, fields), file=sys.stderr, flush=True)
    except OSError:
        pass
