"""Real processes that run real scripts, and are killed.

``tests.support.child`` is what runs in them. Nothing here waits for a length of time: a process ends by itself, at a
mark, or when it has said that it committed so many transactions; the time-outs only end a test that would hang.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that is over."""

    status: int
    """As of :mod:`subprocess`: the exit status, or minus the number of the signal that killed it."""
    attempted: list[int]
    acknowledged: list[int]
    said: str
    """Everything on standard output."""
    errors: str
    """Everything on standard error."""

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.status == -signal.SIGKILL


class Child:
    """A script in a process of its own."""

    def __init__(self, script: Path, *arguments: object, crash_at: str | None = None, crash_by: str = "KILL") -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VERITYDB_")}
        environment["PYTHONPATH"] = str(ROOT)
        if crash_at is not None:
            environment |= {"CRASH_AT": crash_at, "CRASH_BY": crash_by}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  it is read when the process is over
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.child", str(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=script.parent,
            env=environment,
            bufsize=0,  # communicate() would not see what readline() has read ahead.
        )
        self._said: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(TIMEOUT)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def line(self) -> str:
        """Wait for the next line that the script says; empty at its end."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        self._said.append(line)
        return line.strip()

    def until(self, text: str) -> None:
        """Wait for a line; fails if the script ends before it says it."""
        while self.line() != text:
            assert self._said[-1], f"ended without saying {text!r}: {self.errors()}"

    def tell(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())

    def errors(self) -> str:
        """Return what it has written to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def signal(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> Ended:
        """Wait until it is over."""
        out, _ = self._process.communicate(timeout=TIMEOUT)
        said = "".join(self._said) + out.decode()
        # A process that is killed may leave half a line; half a line says nothing.
        lines = [line.split() for line in said[: said.rfind("\n") + 1].splitlines()]
        return Ended(
            self._process.returncode,
            [int(words[1]) for words in lines if words[:1] == ["attempted"]],
            [int(words[1]) for words in lines if words[:1] == ["acknowledged"]],
            said,
            self.errors(),
        )


def run(script: Path, *arguments: object, crash_at: str | None = None, crash_by: str = "KILL") -> Ended:
    """Run ``script`` until it is over."""
    with Child(script, *arguments, crash_at=crash_at, crash_by=crash_by) as child:
        return child.end()
