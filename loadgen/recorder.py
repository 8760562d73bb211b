"""Writes what clients see as 40-byte records into shared-mapped files.

A segment is allocated on disk before its first record, so a full disk is an error when a
segment begins and never a signal in the middle of one. The kernel owns the pages: kill -9
of this process loses nothing. There is no buffer, no writer thread and no encoding.

A run is never slowed or stopped by its own log. Records that cannot be kept, because no
further segment can be made, are counted in a LOST_LOG record, for which the last slot of
every segment is reserved; the run is void then (reports), but what was recorded stays.

The format is ``reports.history``'s.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic_ns
from typing import Final

import numpy as np
import numpy.typing as npt

from reports.history import HEADER_BYTES, PACKER, RECORD, SEGMENT_BYTES, Header, Kind

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_SIZE: Final = RECORD.itemsize
_MAX_EPOCHS: Final = 2**16 - 1
_LOST: Final = int(Kind.LOST_LOG)
_RETRY_NS: Final = 1_000_000_000  # a full disk is asked again once a second, not once a record
_pack_into = PACKER.pack_into

Records = npt.NDArray[np.void]


class RecorderError(Exception):
    """The log of a worker cannot be started; the text says which file and why."""


class Recorder:
    """The log of one worker: ``events/w<worker>-<n>.rec`` and ``events/w<worker>.names.jsonl``.

    ``put`` is for the hot path and takes all fields by position; ``write`` names them.
    Neither raises on a full disk. Field values must fit their columns.

    Args:
        directory: the run's ``events`` directory; made when missing.
        nonce: the run's, below 2^64.
        segment_bytes: size of a file, header included; at least header and two records.
        alone: no other thread calls ``prepare``, so there is no lock.
    Raises:
        RecorderError: the first segment cannot be made, or the log exists already.
    """

    def __init__(
        self,
        directory: Path,
        worker: int,
        nonce: int,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        alone: bool = False,
    ) -> None:
        slots = (segment_bytes - HEADER_BYTES) // _SIZE
        if slots < 2:
            raise RecorderError(
                f"segment_bytes is {segment_bytes}: must be at least {HEADER_BYTES + 2 * _SIZE}, "
                "a header, a record and the slot for lost records"
            )
        self._directory, self._worker, self._nonce = directory, worker, nonce
        self._segment_bytes = segment_bytes
        self._last = HEADER_BYTES + (slots - 1) * _SIZE  # the slot reserved for LOST_LOG
        self._boot_id = bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))
        self._epochs: dict[str, int] = {}
        self._segment = 0
        self._full_segments = 0  # records in segments before this one
        self._lost = 0
        self._lost_here = 0  # of them, those that this segment's LOST_LOG speaks of
        self._seen = HEADER_BYTES  # where `fresh` goes on
        self._unseen: list[Records] = []  # of full segments, for `fresh`
        self._spare: tuple[Path, mmap.mmap] | None = None
        self._retry_ns = -(2**63)  # no new segment is tried before
        # `prepare` may run in another thread.
        self._making: AbstractContextManager[object] = contextlib.nullcontext() if alone else threading.Lock()
        self._closed = False
        self._names = -1
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._path, self._map = self._make_segment(1)
            self._segment = 1
            self._names = os.open(
                directory / f"w{worker}.names.jsonl",
                os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
                0o644,
            )
        except OSError as error:
            raise RecorderError(
                f"the log of worker {worker} cannot be started in {directory}: {error.strerror}; "
                f"it needs {segment_bytes} bytes of disk and must not exist yet"
            ) from error
        self._at = HEADER_BYTES

    def put(
        self,
        kind: int,
        t: int,
        t2: int,
        client: int,
        channel: int,
        publisher: int,
        pub_seq: int,
        serial: int,
        epoch: int,
        flags: int,
    ) -> None:
        """Record, all fields by position."""
        at = self._at
        if at == self._last:
            if not self._next_segment(t):
                return
            at = self._at
        # The kind is nearly last in a record, so one that a kill cuts short still reads as unused.
        _pack_into(self._map, at, t, t2, client, channel, publisher, pub_seq, serial, epoch, kind, flags)
        self._at = at + _SIZE

    def write(
        self,
        kind: Kind,
        *,
        t: int,
        t2: int = 0,
        client: int = 0,
        channel: int = 0,
        publisher: int = 0,
        pub_seq: int = 0,
        serial: int = 0,
        epoch: int = 0,
        flags: int = 0,
    ) -> None:
        """Record. Times are CLOCK_MONOTONIC, nanoseconds; what fields mean by kind: ``reports.history``."""
        self.put(kind, t, t2, client, channel, publisher, pub_seq, serial, epoch, flags)

    def epoch(self, name: str) -> int:
        """This worker's number of an epoch, from 1; its name is on disk before this returns.

        0, and one more lost record, when it cannot be written or there are 65,535 already.
        """
        number = self._epochs.get(name)
        if number is not None:
            return number
        number = len(self._epochs) + 1
        line = json.dumps({"epoch": number, "name": name}) + "\n"
        if number > _MAX_EPOCHS or not self._append_name(line.encode()):
            self._lost += 1
            self.put(_LOST, monotonic_ns(), 0, 0, 0, 0, 0, 1, 0, 0)
            return 0
        self._epochs[name] = number
        return number

    @property
    def count(self) -> int:
        """Records written, LOST_LOG records not counted."""
        return self._full_segments + (self._at - HEADER_BYTES) // _SIZE

    @property
    def lost(self) -> int:
        """Records that could not be written."""
        return self._lost

    @property
    def unfolded(self) -> int:
        """Records since the last ``fresh``, of this segment."""
        return (self._at - self._seen) // _SIZE

    def fresh(self) -> Records:
        """The records written since the last call, as a ``reports.history.RECORD`` array.

        How a worker computes its live figures without a counter on the hot path. A view where
        possible: use it before the next ``put``.
        """
        parts = [*self._unseen, self._view(self._seen, self._at)]
        self._unseen.clear()
        self._seen = self._at
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @property
    def wants_segment(self) -> bool:
        """Whether this segment is half full and ``prepare`` has something to do."""
        return self._spare is None and not self._closed and self._at > self._last // 2

    def prepare(self) -> None:
        """Make the next segment ahead of its need; may run in another thread.

        Making a segment takes milliseconds, which a loop that paces load does not have.
        """
        with self._making:
            if self.wants_segment:
                with contextlib.suppress(OSError):
                    self._spare = self._make_segment(self._segment + 1)

    def close(self) -> None:
        """Cut the files to what was written. Further records are ignored; closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        self._unseen.clear()
        os.truncate(self._path, self._last + _SIZE if self._lost_here else self._at)
        # The pages behind the cut must not be touched again: nothing fits any more, nothing is fresh.
        self._full_segments = self.count
        self._at = self._last = self._seen = HEADER_BYTES
        with self._making:
            if self._spare is not None:
                self._spare[0].unlink()
                self._spare = None
        os.close(self._names)

    def _next_segment(self, t: int) -> bool:
        """Go on in a new segment. False: there is none, and the record at hand is lost."""
        if self._closed:
            return False
        with self._making:
            made, self._spare = self._spare, None
            if made is None and t >= self._retry_ns:
                with contextlib.suppress(OSError):
                    made = self._make_segment(self._segment + 1)
        if made is None:
            self._lose(t)
            return False
        self._unseen.append(self._view(self._seen, self._at))
        self._full_segments = self.count
        self._path, self._map = made
        self._segment += 1
        self._at = self._seen = HEADER_BYTES
        self._lost_here = 0
        return True

    def _make_segment(self, number: int) -> tuple[Path, mmap.mmap]:
        path = self._directory / f"w{self._worker}-{number}.rec"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, self._segment_bytes)
            mapped = mmap.mmap(descriptor, self._segment_bytes)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        header = Header(worker=self._worker, segment=number, boot_id=self._boot_id, nonce=self._nonce)
        mapped[:HEADER_BYTES] = header.pack()
        return path, mapped

    def _lose(self, t: int) -> None:
        if t >= self._retry_ns:
            self._retry_ns = t + _RETRY_NS
        self._lost += 1
        self._lost_here += 1
        serial = min(self._lost_here, 2**32 - 1)
        _pack_into(self._map, self._last, t, 0, 0, 0, 0, 0, serial, 0, _LOST, 0)

    def _append_name(self, line: bytes) -> bool:
        try:
            return os.write(self._names, line) == len(line)
        except OSError:
            return False

    def _view(self, start: int, stop: int) -> Records:
        return np.frombuffer(self._map, RECORD, (stop - start) // _SIZE, start)
