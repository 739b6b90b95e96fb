"""A server as it runs: ``veritydb serve`` in a process of its own, and clients on real sockets."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.support.cli import COMMAND, environment
from veritydb.sse.settings import hash_of

if TYPE_CHECKING:
    from types import TracebackType

TIMEOUT = 20.0
"""Ends a test that would hang."""
ALL_KEY = "vk_all"
WARD_KEY = "vk_ward"
NOBODY_KEY = "vk_nobody"

CONFIG = f"""
[[api_keys]]
name = "everything"
sha256 = "{hash_of(ALL_KEY)}"
role = "all"

[[api_keys]]
name = "ward screen"
sha256 = "{hash_of(WARD_KEY)}"
role = "ward"
claims = {{ ward = "A" }}

[[api_keys]]
name = "nobody"
sha256 = "{hash_of(NOBODY_KEY)}"
role = "nothing"

[roles.all.tables]
"*" = {{}}

[roles.ward]
actors = false
[roles.ward.tables]
patients = {{ columns = ["id", "name", "ward"], rows = {{ ward = {{ claim = "ward" }} }} }}

[roles.nothing]
"""
SCHEMA = """
CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT, ward TEXT, ssn TEXT);
CREATE TABLE secrets (id INTEGER PRIMARY KEY, body TEXT);
"""


class Server:
    """``veritydb serve`` until the ``with`` ends."""

    def __init__(self, database: Path, config: str = CONFIG, *options: str, key: str | None = None) -> None:
        self.database = database
        self._config = database.with_name("server.toml")
        self._config.write_text(config, encoding="utf-8")
        self._options = list(options)
        self._key = key
        self._log = database.with_name("server.log")
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, on the port it had before, if it had one."""
        with self._log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "serve", self.database, "--config", self._config, "--port", str(self.port), *self._options],
                env=environment(self._key),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert " at http" in line, f"{line} {self.errors()}"
        self.port = int(line.rstrip().rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait until it has ended."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def errors(self) -> str:
        """What it has written to standard error, in all its lives."""
        return self._log.read_text(encoding="utf-8")

    def memory(self) -> int:
        """Bytes that its process has in memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        raise AssertionError("no VmRSS")

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = ALL_KEY,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Make one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        content = None
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def events(self, query: str = "", *, key: str | None = ALL_KEY, last_event_id: str | None = None) -> EventStream:
        """Begin a stream."""
        return EventStream(self.port, query, key, last_event_id)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.content)

    @property
    def kind(self) -> str:
        """Of a problem."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(self.json["type"]).rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream."""

    id: str
    event: str
    data: Any
    place: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        offset, _, index = self.id.partition("@")[0].partition(".")
        object.__setattr__(self, "place", (int(offset or -1), int(index or 1 << 62)))


class EventStream:
    """A client of an event stream, as the specification of ``EventSource`` reads one."""

    def __init__(self, port: int, query: str, key: str | None, last_event_id: str | None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        headers = {"Accept": "text/event-stream"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        self._connection.request("GET", f"/events?{query}", headers=headers)
        self.response = self._connection.getresponse()
        self.status = self.response.status
        self.retry: int | None = None
        self.comments = 0
        self.last_id = last_event_id

    def __enter__(self) -> Self:
        if self.status != 200:
            self.close()
            raise AssertionError(self.status)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Go away."""
        self._connection.close()
        self.response.close()

    def problem(self) -> Answer:
        """What was answered instead of a stream."""
        assert self.status >= 400, self.status
        try:
            return Answer(self.status, dict(self.response.getheaders()), self.response.read())
        finally:
            self.close()

    def next(self) -> Event | None:
        """Wait for the next event; None at the end of the stream."""
        event, data = "message", ""
        deadline = time.monotonic() + TIMEOUT
        while True:
            # Heartbeats would keep a client that waits for the wrong thing waiting for ever.
            assert time.monotonic() < deadline, "no event came"
            line = self.response.readline().decode()
            if not line:
                return None
            line = line.rstrip("\n")
            if not line:
                if data:
                    return Event(self.last_id or "", event, json.loads(data))
                continue
            name, _, value = line.partition(": ")
            if name == "id":
                self.last_id = value
            elif name == "event":
                event = value
            elif name == "data":
                data += value
            elif name == "retry":
                self.retry = int(value)
            elif name.startswith(":"):
                self.comments += 1

    def take(self, count: int, kind: str = "change") -> list[Event]:
        """Wait for so many events of a kind."""
        taken: list[Event] = []
        while len(taken) < count:
            event = self.next()
            assert event is not None, f"the stream ended after {taken}"
            if event.event == kind:
                taken.append(event)
        return taken


def wait_until(truth: Any, seconds: float = TIMEOUT) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.02)
