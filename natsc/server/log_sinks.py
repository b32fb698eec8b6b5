"""Where log lines go: stderr, or a file that rotates by size. (Syslog has a file of its own.)

A sink takes whole lines as bytes. Its write() never raises and never waits longer than _STALL_MS; see log.py for what
becomes of a line that can't be written.
"""

from __future__ import annotations

import os
import select
import stat
import time

from natsc.oserrors import errno_text, path_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.server.log import Log

_STDERR = 2

# A reader of our stderr that stops reading holds the server up this long, once; then lines are dropped until it reads
# again.
_STALL_MS = 1000
# A pipe that polls as writable takes this much at once.
_PIPE_CHUNK = 4096

_FILE_MODE = 0o640
_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class LogError(Exception):
    """A log that can't be opened; str() says which and why, as nats-server does."""


class Sink:
    """A descriptor to write lines to, and the count of those that were lost."""

    coloured = False
    # True where the line's own time, pid and level would only repeat what the transport says.
    plain_text = False
    is_file = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.lost = 0
        self._losing = 0
        self._torn = False
        self._log: Log | None = None

    def start(self, log: Log) -> None:
        """Called when `log` begins to write here; its format serves for the sink's own lines."""
        self._log = log

    def write(self, _level: str, line: bytes) -> None:
        if self._losing or self._torn:
            line = self._resumption() + line
        try:
            self._put(line)
        except OSError as error:
            self._lose(error)
            return
        self._losing = 0
        self._torn = False

    def reopen(self) -> None:
        """Only a file is reopened."""

    def close(self) -> None:
        """Nothing to let go of."""

    def _put(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        while written < len(line):
            self._torn = True
            written += os.write(self._fd, line[written:])
        self._torn = False

    def _lose(self, error: OSError) -> None:
        self.lost += 1
        self._losing += 1
        if self._losing == 1:
            self._tell(error)

    def _tell(self, _error: OSError) -> None:
        """Says once that lines are being lost, where there is another place to say it."""

    def _resumption(self) -> bytes:
        """What precedes the first line after a loss: the end of a torn line, and how many are missing."""
        head = b"\n" if self._torn else b""
        return head + self._own_line("WRN", f"{self._losing} log lines were lost") if self._losing else head

    def _own_line(self, level: str, text: str) -> bytes:
        return self._log.line(level, text) if self._log is not None else b""


class StderrSink(Sink):
    """The process's stderr."""

    def __init__(self) -> None:
        super().__init__(_STDERR)
        try:
            mode = os.fstat(_STDERR).st_mode
        except OSError:
            mode = stat.S_IFREG  # Closed: every write fails and is counted.
        self.coloured = stat.S_ISCHR(mode) and os.isatty(_STDERR)
        self._poll: select.poll | None = None
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or self.coloured:
            self._poll = select.poll()
            self._poll.register(_STDERR, select.POLLOUT)

    def _put(self, line: bytes) -> None:
        if self._poll is None:
            super()._put(line)
            return
        for at in range(0, len(line), _PIPE_CHUNK):
            if not self._poll.poll(0) and (self._losing or not self._poll.poll(_STALL_MS)):
                raise BlockingIOError
            super()._put(line[at : at + _PIPE_CHUNK])
            self._torn = at + _PIPE_CHUNK < len(line)


class FileSink(Sink):
    """A log file.

    Past `limit` bytes it is renamed, and a new one begun; of the renamed ones `keep` - 1 stay (0: all).
    """

    is_file = True

    def __init__(self, path: str, limit: int = 0, keep: int = 0) -> None:
        self._path = path
        fd, self._size = _open(path)
        super().__init__(fd)
        # Renaming is for files: /dev/stdout, a pipe or /dev/null must stay what they are.
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self._limit = self._limit_asked = limit if regular else 0
        self._keep = keep

    def start(self, log: Log) -> None:
        super().start(log)
        if 0 < self._limit < self._size:
            log.notice("Rotating logfile...")

    def write(self, level: str, line: bytes) -> None:
        super().write(level, line)
        if 0 < self._limit < self._size:
            self._rotate()

    def reopen(self) -> None:
        """Raises LogError, and then the file open until now stays."""
        fd, size = _open(self._path)
        os.close(self._fd)
        self._fd, self._size = fd, size

    def close(self) -> None:
        os.close(self._fd)

    def _put(self, line: bytes) -> None:
        super()._put(line)
        self._size += len(line)

    def _tell(self, error: OSError) -> None:
        text = f"Log lines are being lost: {path_error('write', self._path, error)}"
        StderrSink().write("ERR", self._own_line("ERR", text))

    # --- rotation

    def _rotate(self) -> None:
        second, fraction = divmod(time.time_ns(), 1_000_000_000)
        backup = f"{self._path}.{time.strftime('%Y.%m.%d.%H.%M.%S', time.localtime(second))}.{fraction:09d}"
        try:
            os.rename(self._path, backup)
        except OSError as error:
            self._put_off_rotation(error)
            return
        try:
            self.reopen()
        except LogError as error:
            os.rename(backup, self._path)
            self._put_off_rotation(error)
            return
        self._limit = self._limit_asked
        self._write_direct("INF", f'Rotated log, backup saved as "{backup}"')
        if self._keep > 0:
            self._purge()

    def _put_off_rotation(self, error: Exception) -> None:
        self._limit *= 2
        text = errno_text(error) if isinstance(error, OSError) else str(error)
        self._write_direct(
            "ERR", f"Unable to rotate logfile ({text}), will attempt next rotation at size {self._limit}"
        )

    def _write_direct(self, level: str, text: str) -> None:
        """A line about the log itself; it can't bring up another rotation."""
        super().write(level, self._own_line(level, text))

    def _purge(self) -> None:
        directory, base = os.path.split(self._path)
        directory = directory or "."
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            text = path_error("open", directory, error)
            self._write_direct(
                "ERR", f'Unable to read directory "{directory}" for log purge ({text}), will attempt next rotation'
            )
            return
        backups = [name for name in names if name.startswith(base + ".") and _is_stamp(name[len(base) + 1 :])]
        for name in backups[: max(0, len(backups) - (self._keep - 1))]:
            try:
                os.unlink(os.path.join(directory, name))
            except OSError as error:
                text = path_error("remove", os.path.join(directory, name), error)
                self._write_direct(
                    "ERR", f'Unable to remove backup log file "{name}" ({text}), will attempt next rotation'
                )
                return
            self._write_direct("INF", f'Purged log file "{name}"')


def _open(path: str) -> tuple[int, int]:
    """(descriptor, size). Raises LogError."""
    try:
        fd = os.open(path, _FILE_FLAGS, _FILE_MODE)
    except OSError as error:
        raise LogError(f"error opening file: {path_error('open', path, error)}") from None
    return fd, os.fstat(fd).st_size


def _is_stamp(text: str) -> bool:
    """Whether `text` is the time in a backup's name: 2026.03.01.12.00.00.123456789."""
    parts = text.split(".")
    return len(parts) in (6, 7) and len(parts[0]) == 4 and all(part.isdigit() for part in parts)
