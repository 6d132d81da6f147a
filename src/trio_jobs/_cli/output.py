"""Standard output and standard error of the commands: all that they print goes through this module.

Who reads the output is not known. Its encoding may lack characters, as in a pipe on Windows: those are escaped as in
JSON, so that a line of JSON stays one. Its reader may have ended, such as `head`: the rest is discarded, and the
command goes on, since its exit code says what became of the job. It may be closed, or on a disk that is full.

And it may be a pipe that nobody reads. A write to it never returns, and a server must neither wait for it nor depend on
it when it leaves. So `serve` has a standard error that a thread of its own writes: `background_stderr`.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

__all__ = ["OutputFailed", "background_stderr", "finish", "prepare", "print_error", "print_last", "print_line"]

ESCAPES: Final = "trio_jobs.escapes"  #: the name of the error handler of the streams
LIMIT: Final = 1 << 20  #: bytes of standard error that wait for their reader: some 8,000 lines
GOODBYE: Final = 1.0  #: seconds that `serve` waits at its end until standard error is written
LAST_WORDS: Final = 0.2  #: the same before an exit at once
_PAUSE: Final = 0.05  #: seconds between two writes to an output that would block

_reader_is_gone = False


class OutputFailed(Exception):
    """Standard output cannot be written."""


def prepare() -> None:
    """Prepare the standard files of the process: for any encoding, and also if some are closed."""
    global _reader_is_gone
    _reader_is_gone = False
    for descriptor in range(3):  # the next file that is opened, such as the journal, would become a standard file
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPES)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the encoding lacks as JSON writes them: \\u with four digits, in pairs above U+FFFF."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end


codecs.register_error(ESCAPES, _escaped)


def print_line(text: str) -> bool:
    """Print a line on standard output, at once.

    Returns:
        False if nobody can read it: standard output is closed, or its reader has ended.

    Raises:
        OutputFailed: Standard output cannot be written.
    """
    if sys.stdout is None or _reader_is_gone:
        return False
    with writing():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    return not _reader_is_gone


@contextmanager
def writing() -> Iterator[None]:
    """Around code that writes to standard output: if its reader has ended, the rest of the output is discarded.

    Raises:
        OutputFailed: Standard output cannot be written.
    """
    global _reader_is_gone
    try:
        yield
    except OSError as error:
        _discard(sys.stdout)
        # Windows has no EPIPE
        if isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == errno.EINVAL):
            _reader_is_gone = True
            return
        raise OutputFailed(f"standard output cannot be written: {error.strerror}") from None


def _discard(stream: TextIO) -> None:
    """Let the stream write nowhere. What it has buffered would otherwise fail again, at the exit of Python."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def print_error(text: str) -> None:
    """Print a text on standard error. Does nothing if that is not possible."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _discard(sys.stderr)


def print_last(text: str) -> None:
    """Print a text on standard error before the process exits at once. Returns soon, whatever standard error does."""
    with contextlib.suppress(RuntimeError):  # the system has no more threads
        thread = threading.Thread(target=print_error, args=(text,), daemon=True)
        thread.start()
        thread.join(LAST_WORDS)
    if (background := _background_of(sys.stderr)) is not None:
        background.drain(LAST_WORDS)


def finish() -> None:
    """Write what standard output has buffered.

    Raises:
        OutputFailed: Standard output cannot be written.
    """
    if sys.stdout is not None and not sys.stdout.closed:
        with writing():
            sys.stdout.flush()


@contextmanager
def background_stderr(say_dropped: Callable[[int], str]) -> Iterator[None]:
    """Within the block, writes to standard error return at once, from any thread and whatever its reader does.

    Also Python's own: of `warnings`, and of exceptions in threads and destructors. If standard error is not read, at
    most `LIMIT` bytes wait; further lines are dropped and counted.

    Args:
        say_dropped: Returns the line to write where lines were dropped, for their number.
    """
    before = sys.stderr
    try:
        raw: Any = getattr(before.buffer, "raw", before.buffer)  # with -u Python has no buffer
        raw.fileno()
    except (AttributeError, OSError):  # no file: closed, or replaced
        yield
        return
    before.flush()
    writer = BackgroundWriter(raw, lambda count: f"{say_dropped(count)}\n".encode(before.encoding, ESCAPES))
    # a name of its own, so that the block's end restores what the block has found
    sys.stderr = io.TextIOWrapper(writer, before.encoding, ESCAPES, write_through=True)
    try:
        yield
    finally:
        writer.drain(GOODBYE)
        sys.stderr = before


def _background_of(stream: Any) -> BackgroundWriter | None:
    buffer = getattr(stream, "buffer", None)
    return buffer if isinstance(buffer, BackgroundWriter) else None


class BackgroundWriter(io.RawIOBase):
    """A raw file whose writes return at once: a thread of its own writes them to another raw file.

    Args:
        raw: The other file. It has no buffer, whose lock Python would wait for at its exit.
        say_dropped: Returns what to write where lines were dropped, for their number.
    """

    def __init__(self, raw: io.RawIOBase, say_dropped: Callable[[int], bytes]) -> None:
        self.dropped = 0
        """How many lines were dropped, in all."""
        self._raw = raw
        self._say_dropped = say_dropped
        self._chunks: deque[bytes] = deque()
        self._size = 0
        """Bytes that wait, or are being written."""
        self._unsaid = 0
        """Lines that were dropped since the last of them was said."""
        self._changed = threading.Condition()
        self._direct = False
        """Write in the thread of the caller: in a forked process, which lacks the thread, or if none can start."""
        if hasattr(os, "register_at_fork"):
            this = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _become_direct(this))
        try:
            threading.Thread(target=self._run, name="trio-jobs stderr", daemon=True).start()
        except RuntimeError:  # the system has no more threads
            self._direct = True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        if self._direct:
            return self._raw.write(chunk) or len(chunk)
        with self._changed:
            if self._size + len(chunk) > LIMIT:
                lines = max(chunk.count(b"\n"), 1)
                self.dropped += lines
                self._unsaid += lines
            else:
                self._say()
                self._add(chunk)
        return len(chunk)

    def drain(self, seconds: float) -> bool:
        """Wait until everything is written, for at most so many seconds. Returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._size == 0 and not self._unsaid, seconds)

    def _add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._changed.notify_all()

    def _say(self) -> None:
        if self._unsaid:
            self._add(self._say_dropped(self._unsaid))
            self._unsaid = 0

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._chunks)
                chunk = self._chunks.popleft()
            _write_all(self._raw, chunk)
            with self._changed:
                self._size -= len(chunk)
                if not self._chunks:
                    self._say()
                self._changed.notify_all()

    def become_direct(self) -> None:
        """From now on write in the thread of the caller."""
        self._direct = True
        self._changed = threading.Condition()


def _become_direct(writer: weakref.ref[BackgroundWriter]) -> None:
    if (found := writer()) is not None:
        found.become_direct()


def _write_all(raw: io.RawIOBase, data: bytes) -> None:
    """Write all of it, however long that takes. If the reader has ended, it is discarded."""
    while data:
        try:
            written = raw.write(data)
        except (OSError, ValueError):
            return
        if written is None:  # another process has made the file non-blocking
            time.sleep(_PAUSE)
        else:
            data = data[written:]
