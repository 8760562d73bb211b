"""How the records of a worker on another host come to the run directory: asked for, piece by piece.

The worker says what files it has, each with its size and digest; the master asks for one piece after
another, so that neither holds more than a piece in memory, and takes a file only when size and digest
are as announced. No path travels: the worker names files of its events directory, and the master
accepts names that a log of that worker has, and no others.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

PIECE_BYTES: Final = 1 << 20
_OWN_NAME: Final = r"w{index}(-[0-9]{{1,6}}\.rec|\.names\.jsonl|\.counters\.json)"


class Parcel(NamedTuple):
    """A file that is to be fetched, as it is announced."""

    name: str
    size_bytes: int
    sha256: str


class NotCollected(Exception):
    """A file did not come as it was announced; the text names it and says why."""


class Missing(NamedTuple):
    """The piece to ask for next."""

    name: str
    offset: int


def parcels(events: Path) -> list[Parcel]:
    """What a worker has to send: all files of its own events directory, digests included."""
    found = []
    for path in sorted(events.iterdir()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append(Parcel(path.name, path.stat().st_size, digest))
    return found


def piece(events: Path, name: str, offset: int) -> bytes:
    """A piece of one of those files; empty behind its end.

    Raises:
        OSError, ValueError: there is no such file in the directory.
    """
    if Path(name).name != name:
        raise ValueError(f"{name!r} is a path: only names of files in {events} are sent")
    with (events / name).open("rb") as file:
        file.seek(offset)
        return file.read(PIECE_BYTES)


class Collection:
    """The master's side: the files of one worker, put together in the run's events directory.

    Args:
        announced: rows of (name, size, SHA-256 in hex), as they came.
    Raises:
        NotCollected: what is announced is no list of files that this worker's log may have.
    """

    def __init__(self, events: Path, index: int, announced: Any) -> None:
        self._events = events
        try:
            self._waiting = [Parcel(str(name), int(size), str(digest)) for name, size, digest in announced]
        except (TypeError, ValueError) as error:
            raise NotCollected(f"what worker {index} announced is no list of files: {error}") from None
        own = re.compile(_OWN_NAME.format(index=index))
        for parcel in self._waiting:
            if not own.fullmatch(parcel.name) or parcel.size_bytes < 0:
                raise NotCollected(f"worker {index} announced {parcel.name!r}: no file of its log")
        events.mkdir(parents=True, exist_ok=True)
        self.total_bytes = sum(parcel.size_bytes for parcel in self._waiting)
        self.got_bytes = 0
        self._file: IO[bytes] | None = None
        self._offset, self._digest = 0, hashlib.sha256()
        self._abandoned = False

    @property
    def complete(self) -> bool:
        """Whether every file is there."""
        return not self._waiting

    @property
    def under_way(self) -> bool:
        """Whether more is to come."""
        return bool(self._waiting) and not self._abandoned

    def next(self) -> Missing | None:
        """What to ask for; None: everything is there, or it was given up.

        Raises:
            NotCollected: a file that is complete is not the one that was announced, or cannot be written.
        """
        while self.under_way:
            parcel = self._waiting[0]
            if self._offset < parcel.size_bytes:
                return Missing(parcel.name, self._offset)
            self._keep(parcel)
        return None

    def take(self, name: str, offset: int, data: bytes) -> None:
        """Take in a piece. One that was not asked for, or came twice, is passed over.

        Raises:
            NotCollected: the file ends too early, or cannot be written.
        """
        if not self.under_way or (name, offset) != (self._waiting[0].name, self._offset):
            return
        parcel = self._waiting[0]
        if not data or offset + len(data) > parcel.size_bytes:
            raise NotCollected(
                f"{name}: {len(data)} bytes came for offset {offset}: "
                f"{parcel.size_bytes} bytes in all were announced"
            )
        try:
            self._open(parcel).write(data)
        except OSError as error:
            raise NotCollected(f"{name}: cannot be written: {error.strerror}") from None
        self._digest.update(data)
        self._offset += len(data)
        self.got_bytes += len(data)

    def abandon(self) -> None:
        """Give up what is not complete; the files that are stay."""
        self._abandoned = True
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, parcel: Parcel) -> IO[bytes]:
        if self._file is None:
            self._file = (self._events / f"{parcel.name}.partial").open("wb")
        return self._file

    def _keep(self, parcel: Parcel) -> None:
        partial = self._events / f"{parcel.name}.partial"
        try:
            with self._open(parcel):
                self._file = None
            if self._digest.hexdigest() != parcel.sha256:
                partial.unlink()
                raise NotCollected(f"{parcel.name}: what came has not the SHA-256 that was announced")
            partial.replace(self._events / parcel.name)
        except OSError as error:
            raise NotCollected(f"{parcel.name}: cannot be written: {error.strerror}") from None
        del self._waiting[0]
        self._offset, self._digest = 0, hashlib.sha256()
