"""A terminal of ours: runs a program in it, knows what stands on its screen, and types."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

CONTROL = re.compile(r"\x1b\[(?P<args>[0-9;?]*)(?P<kind>[A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>78]")


class Terminal:
    """A program on a terminal of ``size`` (columns, rows). Understands what a full-screen program sends: moves, clears."""

    def __init__(self, command, *, size=(80, 24), env=None):
        self.size = size
        self.raw = b""
        self._rest = ""
        self._clear()
        self._main, self._terminal = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self._terminal)
        environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "LC_ALL")}
        environment |= {"TERM": "xterm-256color", "LANG": "C.UTF-8"} | (env or {})
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            env=environment,
            start_new_session=True,
            # The terminal becomes the one that belongs to the program's session.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, columns, rows):
        self.size = (columns, rows)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def keys(self, text):
        os.write(self._main, text.encode())

    def text(self):
        """The screen as it is now."""
        self._read(0)
        return "\n".join("".join(row).rstrip() for row in self._grid)

    def wait_for(self, condition, seconds=15.0):
        """Waits until ``condition(screen text)`` holds; returns that text."""
        if isinstance(condition, str):
            words = condition

            def condition(text):
                return words in text

        end = time.monotonic() + seconds
        while True:
            text = self.text()
            if condition(text):
                return text
            assert time.monotonic() < end, f"not on the screen within {seconds} s:\n{text}"
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{text}"
            self._read(0.05)

    def wait(self, seconds=15.0):
        """Waits for the end of the program; returns its exit status."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"still running:\n{self.text()}"
            self._read(0.05)
        self._read(0)
        return self.process.returncode

    def is_restored(self):
        """True if the terminal is as the program found it: no other screen, a cursor, lines and echo."""
        left = self.raw.rfind(b"\x1b[?1049l") > self.raw.rfind(b"\x1b[?1049h")
        shown = self.raw.rfind(b"\x1b[?25h") > self.raw.rfind(b"\x1b[?25l")
        return left and shown and termios.tcgetattr(self._terminal) == self.before

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._main)
        os.close(self._terminal)

    def _read(self, seconds):
        while select.select([self._main], [], [], seconds)[0]:
            data = b""
            # Linux ends a terminal that nobody writes to by EIO.
            with contextlib.suppress(OSError):
                data = os.read(self._main, 65536)
            if not data:
                return
            self.raw += data
            self._feed(data)
            seconds = 0

    def _clear(self):
        columns, rows = self.size
        self._grid = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0

    def _feed(self, data):
        text = self._rest + data.decode(errors="replace")
        self._rest = ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                found = CONTROL.match(text, at)
                if not found:
                    # The rest comes with the next piece.
                    self._rest = text[at:]
                    return
                self._control(found["kind"], found["args"] or "")
                at = found.end()
                continue
            self._put(text[at])
            at += 1

    def _control(self, kind, args):
        columns, rows = self.size
        if kind == "H":
            row, _, column = args.partition(";")
            self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
        elif kind == "J":
            self._clear()
        elif kind in "hl" and args == "?1049":
            self._clear()

    def _put(self, character):
        columns, rows = self.size
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row = min(self._row + 1, rows - 1)
        elif character >= " " and self._row < len(self._grid) and self._column < len(self._grid[self._row]):
            self._grid[self._row][self._column] = character
            self._column += 1
