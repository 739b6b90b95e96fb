"""Streams from a real server to real clients: what arrives, what does not, and what happens when things end."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import jwt
import pytest

import veritydb
from tests.support.cli import KEY
from tests.support.served import ALL_KEY, CONFIG, NOBODY_KEY, WARD_KEY, Event, Server, wait_until
from veritydb.sse.endpoints import event_schema

if TYPE_CHECKING:
    from tests.sse.conftest import Clinic

VALIDATOR = jsonschema.Draft202012Validator(json.loads(event_schema()))


def valid(event: Event) -> Event:
    VALIDATOR.validate({"id": event.id, "event": event.event, "data": event.data})
    return event


def add(db: veritydb.Connection, *names: str, ward: str = "A") -> None:
    for name in names:
        db.execute("INSERT INTO patients (name, ward, ssn) VALUES (?, ?, '123')", (name, ward))


def names(events: list[Event]) -> list[str]:
    return [(event.data["after"] or event.data["before"])["name"] for event in events]


def test_a_commit_arrives_as_an_event_with_what_was_and_what_is(clinic: Clinic, server: Server) -> None:
    with server.events("tables=patients&images=1") as stream:
        assert stream.retry is None
        ready = valid(stream.take(1, "ready")[0])
        assert stream.retry == 2_000
        add(clinic.db, "Jane")
        with clinic.db.reason("moved"):
            clinic.db.execute("UPDATE patients SET ward = 'B'")
        clinic.db.execute("DELETE FROM patients")
        inserted, updated, deleted = map(valid, stream.take(3))
    assert ready.data["offset"] + 1 == inserted.data["offset"]
    jane = {"id": 1, "name": "Jane", "ward": "A", "ssn": "123"}
    assert (inserted.data["before"], inserted.data["after"]) == (None, jane)
    assert updated.data["changed"] == ["ward"]
    assert (updated.data["before"], updated.data["after"]) == (jane, jane | {"ward": "B"})
    assert (updated.data["actor"], updated.data["reason"]) == ("dr.lee", "moved")
    assert (deleted.data["action"], deleted.data["row_id"]) == ("delete", 1)
    assert [event.data["offset"] for event in (inserted, updated, deleted)] == [
        event.place[0] for event in (inserted, updated, deleted)
    ]


def test_the_headers_keep_proxies_and_browsers_from_holding_anything_back(quiet: Server) -> None:
    with quiet.events() as stream:
        headers = {name.lower(): value for name, value in stream.response.getheaders()}
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers
    assert "server" not in headers


def test_a_stream_resumes_in_the_middle_of_a_transaction(clinic: Clinic, server: Server) -> None:
    """From each of its cursors, by Last-Event-ID and by since: what follows is what had followed."""
    clinic.db.execute("BEGIN")
    add(clinic.db, *"abcde")
    clinic.db.execute("COMMIT")
    add(clinic.db, "f")
    with server.events("images=1&tables=patients&since=-1") as stream:
        events = stream.take(6)
    assert names(events) == list("abcdef")
    assert len({event.place[0] for event in events}) == 2
    for number, event in enumerate(events):
        add(clinic.db, "end")
        for how in ({"last_event_id": event.id}, {"query": f"&since={event.id}"}):
            query = "images=1&tables=patients" + how.pop("query", "")
            with server.events(query, **how) as stream:
                following = stream.take(6 - number)
            assert [each.id for each in following[:-1]] == [each.id for each in events[number + 1 :]]
            assert names(following[-1:]) == ["end"]


def test_values_that_json_lacks_and_values_that_are_too_long_say_what_they_are(clinic: Clinic, server: Server) -> None:
    clinic.db.execute("CREATE TABLE odd (k BLOB PRIMARY KEY, v) WITHOUT ROWID")
    with server.events("tables=odd&images=1") as stream:
        for number, value in enumerate(
            [2**63 - 1, -(2**53), 1e999, b"\xc0", "x" * 70_000, bytes(70_000), None, "\n\r"]
        ):
            clinic.db.execute("INSERT INTO odd VALUES (?, ?)", (bytes([number]), value))
        clinic.db.execute("INSERT INTO odd VALUES (x'ff', CAST(x'ff' AS TEXT))")
        events = list(map(valid, stream.take(9)))
    assert [event.data["after"]["v"] for event in events] == [
        {"int": "9223372036854775807"},
        {"int": "-9007199254740992"},
        {"real": "inf"},
        {"blob": "c0"},
        {"omitted": "text", "bytes": 70_000},
        {"omitted": "blob", "bytes": 70_000},
        None,
        "\n\r",
        {"text": "ff"},
    ]
    assert events[3].data["row_id"] == [{"blob": "03"}]


def test_a_role_sees_its_columns_of_its_rows_and_no_one_behind_them(clinic: Clinic, server: Server) -> None:
    """A row that comes into view is inserted, one that leaves is deleted; what changed unseen is not told."""
    with server.events("images=1", key=WARD_KEY) as stream:
        stream.take(1, "ready")
        clinic.db.execute("INSERT INTO secrets VALUES (1, 'hush')")
        add(clinic.db, "other", ward="B")
        clinic.db.execute("UPDATE patients SET ward = 'A'")  # comes into view
        clinic.db.execute("UPDATE patients SET ssn = '999'")  # not seen
        clinic.db.execute("UPDATE patients SET name = 'Jane'")
        clinic.db.execute("UPDATE patients SET ward = 'B'")  # leaves
        clinic.db.execute("DELETE FROM patients")  # not seen
        add(clinic.db, "last")
        events = list(map(valid, stream.take(4)))
    assert [event.data["action"] for event in events] == ["insert", "update", "delete", "insert"]
    assert events[1].data["before"] == {"id": 1, "name": "other", "ward": "A"}
    assert events[2].data["after"] is None
    text = str([event.data for event in events])
    for hidden in ("ssn", "123", "999", "secrets", "hush", "'B'", "dr.lee"):
        assert hidden not in text


def test_actions_and_tables_are_filtered(clinic: Clinic, server: Server) -> None:
    with server.events("tables=secrets,%20patients&actions=delete") as stream:
        stream.take(1, "ready")
        add(clinic.db, "Jane")
        clinic.db.execute("DELETE FROM patients")
        event = valid(stream.take(1)[0])
    assert event.data["action"] == "delete"
    assert "before" not in event.data


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ("tables=unknown", 404, "unknown-table"),
        ("tables=sqlite_schema", 404, "unknown-table"),
        ("tables=_veritydb_applied", 404, "unknown-table"),
        ("tables=,", 400, "bad-request"),
        ("tables=patients&tables=secrets", 400, "bad-request"),
        ("actions=truncate", 400, "bad-request"),
        ("images=maybe", 400, "bad-request"),
        ("table=patients", 400, "bad-request"),
        ("since=99999", 400, "future-offset"),
        ("since=abc", 400, "bad-cursor"),
        ("since=1.2.3", 400, "bad-cursor"),
        ("since=-2", 400, "bad-cursor"),
        ("since=" + "9" * 30, 400, "bad-cursor"),
        ("since=1@0123456789abcdef", 409, "other-database"),
    ],
)
def test_what_cannot_be_is_a_problem_with_a_status(quiet: Server, query: str, status: int, kind: str) -> None:
    problem = quiet.events(query).problem()
    assert (problem.status, problem.kind) == (status, kind)


def test_what_is_forbidden_is_answered_like_what_is_unknown(quiet: Server) -> None:
    for key in (WARD_KEY, NOBODY_KEY):
        forbidden = quiet.events("tables=secrets", key=key).problem()
        unknown = quiet.events("tables=sekrets", key=key).problem()
        assert forbidden.status == unknown.status == 404
        assert forbidden.content.replace(b"secrets", b"sekrets") == unknown.content


def test_who_presents_nothing_or_something_else_gets_no_stream(quiet: Server) -> None:
    assert quiet.events(key=None).problem().kind == "sign-in"
    assert quiet.events(key="vk_guess").problem().kind == "bad-token"
    assert quiet.events(key="x" * 5_000).problem().kind == "bad-token"
    answer = quiet.ask("GET", "/events", key=None, headers={"Authorization": "Basic eDp5"})
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_who_has_no_rights_sees_nothing(clinic: Clinic, server: Server) -> None:
    with server.events("images=1&since=-1", key=NOBODY_KEY) as stream:
        stream.take(1, "ready")
        add(clinic.db, "Jane")
        with server.events("images=1&since=-1", key=ALL_KEY) as other:
            other.take(1)
        server.stop()
        rest = []
        with contextlib.suppress(OSError):
            while (event := stream.next()) is not None:
                rest.append(event.event)
    assert rest == ["problem"]


def test_a_dropped_table_is_told_and_the_stream_goes_on(clinic: Clinic, server: Server) -> None:
    """As is one that comes back with other columns."""
    with server.events("tables=patients&images=1") as stream:
        stream.take(1, "ready")
        clinic.db.execute("DROP TABLE patients")
        clinic.db.execute("CREATE TABLE other (a)")
        clinic.db.execute("CREATE TABLE patients (id INTEGER PRIMARY KEY, full_name TEXT)")
        clinic.db.execute("INSERT INTO patients VALUES (7, 'Jane Smith')")
        dropped, created = map(valid, stream.take(2, "schema"))
        inserted = valid(stream.take(1)[0])
    assert (dropped.data["dropped"], created.data["created"]) == (["patients"], ["patients"])
    assert inserted.data["after"] == {"id": 7, "full_name": "Jane Smith"}


def test_a_server_that_is_asked_to_end_tells_its_clients_and_a_restart_leaves_no_gap(
    clinic: Clinic, server: Server
) -> None:
    with server.events("images=1&tables=patients") as stream:
        stream.take(1, "ready")
        add(clinic.db, "before")
        last = stream.take(1)[0]
        started = time.monotonic()
        server.stop(signal.SIGTERM)
        assert time.monotonic() - started < 10
        end = stream.next()
        assert end is not None
        assert (end.event, end.data["status"]) == ("problem", 503)
        assert stream.next() is None
    add(clinic.db, "meanwhile", "and again")
    server.start()
    with server.events("images=1&tables=patients", last_event_id=last.id) as stream:
        add(clinic.db, "after")
        assert names(stream.take(3)) == ["meanwhile", "and again", "after"]
    assert "Traceback" not in server.errors()


def test_a_killed_server_leaves_no_gap_either(clinic: Clinic, server: Server) -> None:
    """While somebody writes without pause: each name arrives once, in order, over five lives of the server."""
    stop = threading.Event()
    count = 0

    def write() -> None:
        nonlocal count
        db = veritydb.connect(clinic.path, key=KEY, autocommit=True)
        while not stop.is_set() or count < 50:
            add(db, str(count))
            count += 1
            time.sleep(0.002)
        db.close()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[str] = []
    last: str | None = None
    try:
        for life in range(5):
            with server.events(
                "images=1&tables=patients" + ("&since=-1" if last is None else ""), last_event_id=last
            ) as s:
                taken = s.take(20)
                seen += names(taken)
                last = taken[-1].id
                if life % 2:
                    server.stop(signal.SIGKILL)
                    server.start()
    finally:
        stop.set()
        writer.join()
    with server.events("images=1&tables=patients", last_event_id=last) as stream:
        seen += names(stream.take(count - len(seen)))
    assert seen == [str(number) for number in range(count)]


def test_a_client_that_takes_nothing_costs_bounded_memory_and_nobody_else_waits(clinic: Clinic, tmp_path: Path) -> None:
    config = CONFIG + "\n[streams]\nstall_seconds = 2.0\nheartbeat_seconds = 0.3\n"
    with Server(clinic.path, config, key=KEY) as server:
        stalled = [raw_stream(server.port) for _ in range(20)]
        with server.events("tables=secrets") as stream:
            stream.take(1, "ready")
            # Two waves, so that what is allocated once is not counted.
            write_many(clinic.path, 100)
            stream.take(100)
            before = server.memory()
            writer = threading.Thread(target=write_many, args=(clinic.path, 400))
            writer.start()
            stream.take(400)
            writer.join()
            # 24 MB for each of the twenty would be half a gigabyte.
            assert server.memory() - before < 96 << 20
            # In the end they are cut off, and the one that reads is not.
            wait_until(lambda: server.ask("GET", "/status").json["streams"] == 1)
            clinic.db.execute("INSERT INTO secrets (body) VALUES ('still here')")
            stream.take(1)
        for sock in stalled:
            sock.close()


def write_many(path: Path, count: int) -> None:
    with contextlib.closing(veritydb.connect(path, key=KEY, autocommit=True)) as db:
        for _ in range(count):
            db.execute("INSERT INTO secrets (body) VALUES (?)", ("x" * 60_000,))


def raw_stream(port: int, query: str = "images=1") -> socket.socket:
    """Ask for a stream and read nothing of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(f"GET /events?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALL_KEY}\r\n\r\n".encode())
    return sock


GARBAGE = [
    b"\x00\xff\x16\x03\x01garbage\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /events?\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    b'GET /events HTTP/1.1\r\nHost: x\r\nCookie: veritydb_session="\\777"; ;;=\r\n\r\n',
    b"GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: \xc3\x28\r\nX-API-Key: vk_all\r\n\r\n",
    b"POST /query HTTP/1.1\r\nHost: x\r\nX-API-Key: vk_all\r\nContent-Type: application/json\r\n"
    b"Content-Length: 4\r\n\r\n\xff\xfe{}",
    b"POST /query HTTP/1.1\r\nHost: x\r\nX-API-Key: vk_all\r\nContent-Type: application/json\r\n"
    b"Content-Length: -1\r\n\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ?\r\n\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_answered_or_closed_and_harms_nobody(clinic: Clinic, server: Server, garbage: bytes) -> None:
    with server.events("tables=patients") as stream:
        stream.take(1, "ready")
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(garbage)
                sock.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(OSError):
                while piece := sock.recv(65_536):
                    answer += piece
                    if b"event: ready" in answer:
                        break
        assert not answer.startswith(b"HTTP/1.1 5"), answer
        add(clinic.db, "Jane")
        stream.take(1)
    assert "Traceback" not in server.errors()


def test_a_thousand_clients_that_come_and_vanish_leave_nothing(clinic: Clinic, server: Server) -> None:
    """Some before they have asked, some in the middle of the answer, some by a reset."""
    with server.events("tables=patients") as stream:
        stream.take(1, "ready")
        for number in range(1_000):
            sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            how = number % 4
            if how:
                sock.sendall(f"GET /events?since=-1 HTTP/1.1\r\nHost: x\r\nX-API-Key: {ALL_KEY}\r\n\r\n".encode())
            if how == 2:
                sock.recv(100)
            if how == 3:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        add(clinic.db, "Jane")
        stream.take(1)
        wait_until(lambda: server.ask("GET", "/status").json["streams"] == 1)
    wait_until(lambda: server.ask("GET", "/status").json["streams"] == 0)
    assert "Traceback" not in server.errors()
    assert len(list(Path(f"/proc/{server.pid}/fd").iterdir())) < 60


def test_a_token_that_expires_ends_its_stream_before_anything_else_is_sent(clinic: Clinic, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s" * 40)
    config = CONFIG + '\n[jwt]\nalgorithms = ["HS256"]\nsecret_file = "secret"\naudience = "clinic"\n'

    def token(seconds: float, **claims: Any) -> str:
        said = {"exp": time.time() + seconds, "aud": "clinic", "role": "ward", "ward": ["A", "B"], "sub": "screen"}
        return jwt.encode(said | claims, "s" * 40, algorithm="HS256")

    with Server(clinic.path, config, key=KEY) as server:
        with server.events("images=1", key=token(2.0)) as stream:
            stream.take(1, "ready")
            add(clinic.db, "Jane")
            assert names(stream.take(1)) == ["Jane"]
            last = stream.next()
            assert last is not None
            assert (last.event, last.data["type"]) == ("problem", "urn:problem-type:veritydb:token-expired")
            add(clinic.db, "not for you")
            assert stream.next() is None
        assert server.events(key=token(-1)).problem().kind == "token-expired"
        assert server.events(key=token(9, aud="other")).problem().kind == "bad-token"
        assert server.events(key=token(9, role="no such")).problem().kind == "bad-token"
        assert server.events(key=token(9, role=["all"])).problem().kind == "bad-token"
        forged = jwt.encode({"exp": time.time() + 9, "aud": "clinic", "role": "all"}, "", algorithm="none")
        assert server.events(key=forged).problem().kind == "bad-token"
        for_ever = jwt.encode({"aud": "clinic", "role": "ward"}, "s" * 40, algorithm="HS256")
        assert server.events(key=for_ever).problem().kind == "bad-token"


def test_there_are_only_so_many_streams(clinic: Clinic) -> None:
    config = CONFIG + "\n[streams]\nstreams_max = 3\nstreams_per_caller_max = 2\nheartbeat_seconds = 0.2\n"
    with Server(clinic.path, config, key=KEY) as server, server.events() as one, server.events():
        refused = server.events().problem()
        assert (refused.status, refused.kind) == (429, "too-many")
        assert int(refused.headers["retry-after"]) > 0
        with server.events(key=WARD_KEY):
            assert server.events(key=NOBODY_KEY).problem().kind == "too-many"
        one.take(1, "ready")
        time.sleep(1.5)  # Heartbeats come only where nothing else does.
        add(clinic.db, "Jane")
        one.take(1)
        assert one.comments


def test_another_log_in_the_place_of_the_old_one_is_a_resync(clinic: Clinic, server: Server) -> None:
    """A browser's cursor of the old one, too."""
    with server.events("tables=patients") as stream:
        stream.take(1, "ready")
        add(clinic.db, "Jane")
        last = stream.take(1)[0]
        other = last.id.partition("@")[0] + "@0123456789abcdef"
        with server.events("tables=patients", last_event_id=other) as resumed:
            event = valid(resumed.take(1, "resync")[0])
            assert event.data["offset"] == -1
            assert resumed.take(1)[0].id == last.id


# A snapshot, then the tail


def rows(events: list[Event]) -> list[Any]:
    return [event.data["row"] for event in events if event.event == "row"]


def until_ready(stream: Any) -> list[Event]:
    found: list[Event] = []
    while not found or found[-1].event != "ready":
        event = stream.next()
        assert event is not None
        # A browser that is cut off here begins again: it has no cursor to resume from.
        assert stream.last_id is None or event.event == "ready"
        found.append(event if stream.last_id is not None else valid_without_id(event))
    return found


def valid_without_id(event: Event) -> Event:
    VALIDATOR.validate({"event": event.event, "data": event.data})
    return event


def test_a_snapshot_comes_first_and_the_tail_follows_without_gap_or_overlap(clinic: Clinic, server: Server) -> None:
    """While another connection writes as fast as it can: what the client knows is what the table holds."""
    stop = threading.Event()

    def write() -> None:
        with contextlib.closing(veritydb.connect(clinic.path, key=KEY, autocommit=True)) as db:
            for number in range(10_000):
                add(db, f"n{number}")
                db.execute("UPDATE patients SET name = name || '!' WHERE id = ?", (number // 2 + 1,))
                db.execute("DELETE FROM patients WHERE id = ?", (number // 3,))
                if stop.is_set():
                    return

    add(clinic.db, *(f"first{number}" for number in range(500)))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            known: dict[int, Any] = {}
            with server.events("tables=patients&images=1&snapshot=1") as stream:
                for event in until_ready(stream):
                    if event.event == "row":
                        assert known.setdefault(event.data["row_id"], event.data["row"]) is event.data["row"]
                for event in map(valid, stream.take(60)):
                    data = event.data
                    if data["action"] != "insert":
                        assert known.pop(data["row_id"]) == data["before"]
                    if data["after"] is not None:
                        assert data["row_id"] not in known
                        known[data["row_id"]] = data["after"]
                offset = event.place[0]
            then = server.ask("POST", "/query", {"sql": "SELECT id, name, ward, ssn FROM patients", "at": offset}).json
            assert sorted(map(list, (row.values() for row in known.values()))) == sorted(then["rows"])
    finally:
        stop.set()
        writer.join()


def test_a_snapshot_shows_what_the_caller_may_see_and_nothing_else(clinic: Clinic, server: Server) -> None:
    clinic.db.execute("INSERT INTO secrets VALUES (1, 'hush')")
    add(clinic.db, "Jane")
    add(clinic.db, "other", ward="B")
    with server.events("images=1&snapshot=1", key=WARD_KEY) as stream:
        events = until_ready(stream)
    assert events[0].event == "snapshot"
    assert events[0].data["tables"] == ["patients"]
    assert rows(events) == [{"id": 1, "name": "Jane", "ward": "A"}]
    with server.events("snapshot=1", key=NOBODY_KEY) as stream:
        events = until_ready(stream)
    assert [event.event for event in events] == ["snapshot", "ready"]
    assert events[0].data["tables"] == []
    with server.events("snapshot=1&tables=secrets") as stream:
        events = until_ready(stream)
    assert [event.data for event in events if event.event == "row"] == [{"table": "secrets", "row_id": 1}]
    assert server.events("snapshot=1&tables=secrets", key=WARD_KEY).problem().kind == "unknown-table"
    assert server.events("snapshot=1&since=1").problem().kind == "bad-request"


def test_a_role_that_may_not_query_gets_no_snapshot(clinic: Clinic) -> None:
    config = CONFIG.replace("[roles.ward]\n", "[roles.ward]\nquery = false\n")
    with Server(clinic.path, config, key=KEY) as server:
        assert server.events("snapshot=1", key=WARD_KEY).problem().kind == "forbidden"


def test_after_a_snapshot_a_stream_resumes_without_another(clinic: Clinic, server: Server) -> None:
    add(clinic.db, "a")
    with server.events("images=1&snapshot=1&tables=patients") as stream:
        ready = until_ready(stream)[-1]
    add(clinic.db, "b")
    with server.events("images=1&snapshot=1&tables=patients", last_event_id=ready.id) as stream:
        assert stream.take(1, "ready")[0].id == ready.id
        assert names(stream.take(1)) == ["b"]


def test_after_a_resync_another_snapshot_follows(clinic: Clinic, server: Server) -> None:
    """Whoever resumes in a log that is no longer there learns what there is now, and cannot resume before it has."""
    add(clinic.db, "Jane")
    with server.events("images=1&snapshot=1&tables=patients", last_event_id="1.0@0123456789abcdef") as stream:
        events = [stream.next() for _ in range(4)]
    told = [(event.event, event.id) for event in events if event is not None]
    old = "1.0@0123456789abcdef"
    assert told[:3] == [("resync", old), ("snapshot", old), ("row", old)], "nothing yet to resume behind"
    assert told[3][0] == "ready"
    assert told[3][1] != old


def test_a_snapshot_that_is_not_taken_in_time_is_given_up(clinic: Clinic) -> None:
    clinic.db.execute("BEGIN")
    clinic.db.executemany("INSERT INTO secrets (body) VALUES (?)", (("x" * 20_000,) for _ in range(1_500)))
    clinic.db.execute("COMMIT")
    config = CONFIG + "[streams]\nsnapshot_seconds = 0.5\nsnapshots_max = 1\n"
    with Server(clinic.path, config, key=KEY) as server:
        slow = server.events("snapshot=1&images=1&tables=secrets")
        assert slow.next() is not None
        with slow, server.events("snapshot=1&tables=patients") as other:
            time.sleep(1.0)
            # It waits for its turn, which comes when the one who does not read is given up.
            kinds = []
            with contextlib.suppress(OSError):
                while (event := slow.next()) is not None:
                    kinds.append(event.event)
            assert kinds[-1] == "problem"
            assert until_ready(other)[-1].event == "ready"
