"""Questions, sessions, origins, WebSockets, TLS: what the other addresses answer."""

from __future__ import annotations

import asyncio
import datetime
import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import websockets
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.asgi import Asgi
from tests.support.cli import KEY, command
from tests.support.served import ALL_KEY, CONFIG, NOBODY_KEY, WARD_KEY, Server
from veritydb.cli.exits import Exit
from veritydb.errors import ConfigurationError
from veritydb.sse import create_app, read_settings
from veritydb.sse.endpoints import event_schema
from veritydb.sse.health import Quorum
from veritydb.streams import log_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sse.conftest import Clinic

PATIENTS = {"sql": "SELECT name FROM patients ORDER BY id"}


def settings(folder: Path, more: str = "", config: str = CONFIG) -> Any:
    (folder / "server.toml").write_text(more + config, encoding="utf-8")
    return read_settings(folder / "server.toml")


@pytest.fixture
def asgi(clinic: Clinic, tmp_path: Path) -> Iterator[Asgi]:
    app = create_app(clinic.path, key=KEY, settings=settings(tmp_path), ui=True)
    with Asgi(app, service=app.state.service) as client:
        yield client


def kind(answer: Any) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return str(answer.json()["type"]).rpartition(":")[2]


# Queries


def test_a_query_answers_what_the_caller_may_see_and_as_of_when(clinic: Clinic, asgi: Asgi) -> None:
    clinic.db.execute("INSERT INTO patients VALUES (1, 'Jane', 'A', '111'), (2, 'Ali', 'B', '222')")
    answer = asgi.ask("POST", "/query", json=PATIENTS, key=ALL_KEY)
    assert answer.json() == {
        "columns": ["name"],
        "rows": [["Jane"], ["Ali"]],
        "offset": clinic.db.last_offset,
    }
    assert answer.headers["x-served-at"] == str(clinic.db.last_offset)
    assert answer.headers["cache-control"] == "no-store"
    assert asgi.ask("POST", "/query", json=PATIENTS, key=WARD_KEY).json()["rows"] == [["Jane"]]
    assert kind(asgi.ask("POST", "/query", json=PATIENTS, key=NOBODY_KEY)) == "unknown-name"


def test_parameters_are_values_by_place_or_by_name(asgi: Asgi) -> None:
    ask = {"sql": "SELECT ?, ?, typeof(?)", "parameters": [{"int": "9223372036854775807"}, {"blob": "c0ff"}, True]}
    rows = asgi.ask("POST", "/query", json=ask, key=ALL_KEY).json()["rows"]
    assert rows == [[{"int": "9223372036854775807"}, {"blob": "c0ff"}, "integer"]]
    ask = {"sql": "SELECT :a || :b", "parameters": {"a": "x", "b": "y"}}
    assert asgi.ask("POST", "/query", json=ask, key=ALL_KEY).json()["rows"] == [["xy"]]


@pytest.mark.parametrize(
    ("body", "status", "wanted"),
    [
        ({"sql": "DELETE FROM patients"}, 403, "not-a-read"),
        ({"sql": "SELECT * FROM nowhere"}, 400, "unknown-name"),
        ({"sql": "SELECT ?"}, 400, "bad-statement"),
        ({"sql": "SELECT 1", "parameters": [1]}, 400, "bad-statement"),
        ({"sql": "SELECT ?", "parameters": [2**70]}, 400, "bad-request"),
        ({"sql": "SELECT ?", "parameters": [{"blob": "xyz"}]}, 400, "bad-request"),
        ({"sql": "SELECT ?", "parameters": "x"}, 400, "bad-request"),
        ({"sql": 5}, 400, "bad-request"),
        ({"sql": "SELECT 1", "at": 999}, 400, "future-offset"),
        ({"sql": "SELECT 1", "at": -5}, 400, "future-offset"),
        ({"sql": "SELECT 1", "at": "now"}, 400, "bad-request"),
        ({"sql": "SELECT 1", "where": 1}, 400, "bad-request"),
        ([], 400, "bad-request"),
        ({"sql": "SELECT 1", "parameters": [0] * 2_000}, 413, "too-large"),
    ],
)
def test_a_question_that_cannot_be_is_a_problem(asgi: Asgi, body: Any, status: int, wanted: str) -> None:
    answer = asgi.ask("POST", "/query", json=body, key=ALL_KEY)
    assert (answer.status_code, kind(answer)) == (status, wanted)


def test_other_mistakes_are_problems_too(asgi: Asgi) -> None:
    assert kind(asgi.ask("GET", "/nowhere", key=ALL_KEY)) == "not-found"
    assert kind(asgi.ask("GET", "/query", key=ALL_KEY)) == "method-not-allowed"
    assert kind(asgi.ask("POST", "/events", key=ALL_KEY)) == "method-not-allowed"
    assert kind(asgi.ask("POST", "/query", content=b"{}", key=ALL_KEY)) == "bad-request"  # A form could send that.
    too_large = asgi.ask("POST", "/query", content=b" " * 2_000_000, key=ALL_KEY)
    assert kind(too_large) == "too-large"
    deep = asgi.ask("POST", "/query", content=b"[" * 100_000, headers={"Content-Type": "application/json"}, key=ALL_KEY)
    assert kind(deep) == "bad-request"
    for path in ("/query", "/tables", "/status", "/events"):
        method = "POST" if path == "/query" else "GET"
        assert kind(asgi.ask(method, path)) == "sign-in"
    assert asgi.ask("GET", "/healthz").json() == {"status": "ok"}


def test_how_current_an_answer_is_can_be_asked_for(clinic: Clinic, asgi: Asgi) -> None:
    clinic.db.execute("INSERT INTO patients (name) VALUES ('Jane')")
    last = clinic.db.last_offset
    for headers in (
        {"X-Read-After": str(last)},
        {"X-Read-Consistency": "synchronized"},
        {"X-Read-Consistency": "eventual", "X-Read-After": "99999"},
    ):
        answer = asgi.ask("POST", "/query", json=PATIENTS, key=ALL_KEY, headers=headers)
        assert answer.headers["x-served-at"] == str(last)
    ahead = asgi.ask("POST", "/query", json=PATIENTS, key=ALL_KEY, headers={"X-Read-After": "99999"})
    assert kind(ahead) == "future-offset"
    odd = asgi.ask("POST", "/query", json=PATIENTS, key=ALL_KEY, headers={"X-Read-Consistency": "strong"})
    assert kind(odd) == "bad-request"


def test_what_was_seen_may_be_told_in_tokens_and_then_so_is_the_answer(clinic: Clinic, asgi: Asgi) -> None:
    clinic.db.execute("INSERT INTO patients (name) VALUES ('Jane')")
    last, stream, other = clinic.db.last_offset, clinic.db._session.stream.log.stream.hex()[:16], "0" * 16

    def asked(after: str) -> Any:
        return asgi.ask("POST", "/query", json=PATIENTS, key=ALL_KEY, headers={"X-Read-After": after})

    for after in (f"{last}@{stream}", f"99999@{other}", f"99999@{other}, {last}@{stream}"):
        assert asked(after).headers["x-served-at"] == f"{last}@{stream}"
    assert kind(asked(f"99999@{stream}")) == "future-offset"
    for odd in (f"{last}@", f"x@{stream}", f"-1@{stream}", f"{last}@{stream};", "@"):
        assert kind(asked(odd)) == "bad-request"


# The past


def test_the_past_is_what_it_was_with_the_rights_of_today(clinic: Clinic, asgi: Asgi) -> None:
    """Forwards and backwards, so that files are rebuilt, and made from one another."""
    for number in range(12):
        clinic.db.execute("INSERT INTO patients (name, ward) VALUES (?, 'A')", (str(number),))
    first = clinic.db.last_offset - 11
    for at in (first + 3, first + 7, first + 5, first, first + 11, first + 3):
        answer = asgi.ask("POST", "/query", json=PATIENTS | {"at": at}, key=WARD_KEY).json()
        assert answer["rows"] == [[str(number)] for number in range(at - first + 1)]
        assert answer["offset"] == at
    then = asgi.ask("GET", "/tables?at=0", key=ALL_KEY).json()["tables"]
    assert [table["name"] for table in then] == ["patients"]
    folders = list(clinic.path.parent.glob("clinic.db-past-*"))
    files = [file for folder in folders for file in folder.iterdir()]
    assert len(files) <= 6
    assert all(not file.read_bytes().startswith(b"SQLite format 3") for file in files)


def test_a_role_without_history_is_told_what_is_and_not_what_was(clinic: Clinic, tmp_path: Path) -> None:
    config = CONFIG.replace("[roles.ward]", "[roles.ward]\nhistory = false\nquery = false")
    app = create_app(clinic.path, key=KEY, settings=settings(tmp_path, config=config))
    with Asgi(app, service=app.state.service) as asgi:
        assert kind(asgi.ask("POST", "/query", json=PATIENTS, key=WARD_KEY)) == "forbidden"
        assert kind(asgi.ask("GET", "/tables?at=0", key=WARD_KEY)) == "forbidden"
        assert kind(asgi.ask("GET", "/events?since=0", key=WARD_KEY)) == "forbidden"


def test_a_forged_cursor_shows_no_history_to_a_role_without(clinic: Clinic) -> None:
    """It resumes what it has missed while the server remembers that, and is told when it does not."""
    config = CONFIG.replace("[roles.ward]", "[roles.ward]\nhistory = false")
    clinic.db.execute("INSERT INTO patients (name, ward) VALUES ('earlier', 'A')")
    with Server(clinic.path, config, key=KEY) as server, server.events(key=WARD_KEY) as other:
        forged = str(other.take(1, "ready")[0].id).replace(str(clinic.db.last_offset), "0", 1)
        with server.events("images=1", key=WARD_KEY, last_event_id=forged) as stream:
            stream.take(1, "resync")
            clinic.db.execute("INSERT INTO patients (name, ward) VALUES ('one', 'A'), ('two', 'A')")
            one, two = stream.take(2)
        assert one.data["after"]["name"] == "one"
        with server.events("images=1", key=WARD_KEY, last_event_id=one.id) as stream:
            assert stream.take(1)[0].data == two.data


# Tables, status, page


def test_tables_and_status_say_what_there_is(clinic: Clinic, asgi: Asgi) -> None:
    tables = asgi.ask("GET", "/tables", key=WARD_KEY).json()["tables"]
    assert tables == [{"name": "patients", "kind": "table", "columns": ["id", "name", "ward"], "key": ["id"]}]
    status = asgi.ask("GET", "/status", key=ALL_KEY).json()
    assert status["offset"] == status["applied"] == clinic.db.last_offset
    assert (status["pending"], status["torn"], status["encrypted"]) == (0, False, True)
    assert status["you"]["role"] == "all"
    one = {"members": 1, "needed": 1, "reached": 1, "durable": clinic.db.last_offset, "stream": None}
    assert status["quorum"] == one
    assert status["log_bytes_free"] > 0
    clinic.db.execute("INSERT INTO patients (name) VALUES ('Jane')")
    assert asgi.ask("GET", "/status", key=ALL_KEY).json()["quorum"]["durable"] == clinic.db.last_offset


def test_who_keeps_a_log_with_others_says_who_is_there(clinic: Clinic, tmp_path: Path) -> None:
    def asked(folder: Path) -> Quorum:
        assert folder == log_folder(clinic.path)
        return Quorum(members=3, needed=2, reached=2, durable=1, stream="ward")

    app = create_app(clinic.path, key=KEY, settings=settings(tmp_path), quorum=asked)
    with Asgi(app, service=app.state.service) as asgi:
        quorum = asgi.ask("GET", "/status", key=ALL_KEY).json()["quorum"]
    assert quorum == {"members": 3, "needed": 2, "reached": 2, "durable": 1, "stream": "ward"}
    # A copy that nobody asks about says what it is, and does not count for more.
    (log_folder(clinic.path) / "shared").write_text('{"cluster": "c", "stream": "s", "name": "ward"}\n')
    app = create_app(clinic.path, key=KEY, settings=settings(tmp_path))
    with Asgi(app, service=app.state.service) as asgi:
        quorum = asgi.ask("GET", "/status", key=ALL_KEY).json()["quorum"]
    assert (quorum["members"], quorum["stream"]) == (None, "ward")
    (log_folder(clinic.path) / "shared").unlink()


def test_the_page_allows_nothing_from_elsewhere(asgi: Asgi) -> None:
    page = asgi.ask("GET", "/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for path in ("/page.js", "/page.css", "/icon.svg"):
        found = asgi.ask("GET", path)
        assert found.status_code == 200
        assert "://" not in found.text.replace("http://www.w3.org/2000/svg", "")


# Sessions and origins


def test_a_session_is_a_cookie_that_scripts_and_other_sites_cannot_use(asgi: Asgi) -> None:
    answer = asgi.ask("POST", "/session", json={"credential": WARD_KEY})
    assert answer.json() == {"name": "ward screen", "role": "ward", "expires": None}
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    sent = {"Cookie": cookie.partition(";")[0]}
    assert asgi.ask("GET", "/status", headers=sent).json()["you"]["role"] == "ward"
    assert "Max-Age=0" in asgi.ask("DELETE", "/session").headers["set-cookie"]
    assert kind(asgi.ask("POST", "/session", json={"credential": "vk_no"})) == "bad-token"
    assert kind(asgi.ask("POST", "/session", json={})) == "bad-request"


def test_pages_of_other_hosts_read_only_what_they_are_allowed_to(clinic: Clinic, tmp_path: Path) -> None:
    app = create_app(clinic.path, key=KEY, settings=settings(tmp_path, 'cors_origins = ["https://ward.test"]\n'))
    with Asgi(app, service=app.state.service) as asgi:
        for origin, allowed in (("https://ward.test", "https://ward.test"), ("https://evil.test", None)):
            answer = asgi.ask("GET", "/tables", key=ALL_KEY, headers={"Origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed
            assert "access-control-allow-credentials" not in answer.headers


# WebSockets


def test_a_websocket_tells_the_same_as_an_event_stream(clinic: Clinic, server: Server) -> None:
    """And resumes in the same way, and forgives a client that talks."""
    validator = jsonschema.Draft202012Validator(json.loads(event_schema()))
    url = f"ws://127.0.0.1:{server.port}/ws?tables=patients&images=1"
    headers = {"Authorization": f"Bearer {ALL_KEY}"}

    async def told(query: str, count: int) -> list[Any]:
        async with websockets.connect(url + query, additional_headers=headers, proxy=None) as socket:
            await socket.send("hello? \x00")
            frames = [json.loads(await asyncio.wait_for(socket.recv(), 20)) for _ in range(count)]
        for frame in frames:
            validator.validate(frame)
        return frames

    clinic.db.execute("INSERT INTO patients VALUES (1, 'Jane\n\n', 'A', '1'), (2, 'Ali', 'B', '2')")
    ready, *changes = asyncio.run(told("&since=-1", 3 + 1))
    assert ready["event"] == "ready"
    changes = [frame for frame in changes if frame["event"] == "change"]
    assert [frame["data"]["after"]["name"] for frame in changes] == ["Jane\n\n", "Ali"]
    _, last = asyncio.run(told(f"&since={changes[0]['id']}", 2))
    assert last == changes[1]
    with server.events(f"tables=patients&images=1&since={changes[0]['id']}") as stream:
        (event,) = stream.take(1)
        assert (event.id, event.data) == (last["id"], last["data"])
    snapshot, *rows, ready = asyncio.run(told("&snapshot=1", 4))
    assert (snapshot["event"], ready["event"]) == ("snapshot", "ready")
    assert [row["data"]["row"]["name"] for row in rows] == ["Jane\n\n", "Ali"]
    assert [set(row) for row in rows] == [{"event", "data"}] * 2, "there is nothing to resume behind before ready"


def test_a_websocket_of_a_stranger_is_refused_with_a_problem(server: Server) -> None:
    async def refused(headers: dict[str, str], query: str = "") -> tuple[int, str]:
        with pytest.raises(websockets.InvalidStatus) as raised:
            async with websockets.connect(
                f"ws://127.0.0.1:{server.port}/ws{query}", additional_headers=headers, proxy=None
            ):
                pass
        response = raised.value.response
        return response.status_code, json.loads(response.body or b"{}")["type"].rpartition(":")[2]

    bearer = {"Authorization": f"Bearer {ALL_KEY}"}
    assert asyncio.run(refused({})) == (401, "sign-in")
    assert asyncio.run(refused(bearer, "?tables=nowhere")) == (404, "unknown-table")
    assert asyncio.run(refused(bearer | {"Origin": "https://evil.test"})) == (403, "forbidden")
    assert server.errors() == "", "or any stranger could fill it"


# TLS


def test_over_tls_everything_is_as_without_and_the_cookie_is_for_tls_only(clinic: Clinic, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    options = ["--tls-certificate", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    with Server(clinic.path, CONFIG, *options, "--host", "0.0.0.0", key=KEY) as server:
        trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        connection = http.client.HTTPSConnection("localhost", server.port, context=trusted, timeout=20)
        body = json.dumps({"credential": ALL_KEY})
        connection.request("POST", "/session", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert "Secure" in str(answer.getheader("set-cookie"))
        answer.read()
        connection.close()


def test_what_would_send_data_in_clear_over_a_network_is_refused(clinic: Clinic) -> None:
    for options in (["--host", "0.0.0.0"], ["--host", "192.0.2.1"], ["--tls-key", "key.pem"]):
        ran = command("serve", clinic.path, *options, key=KEY)
        assert ran.code == Exit.USAGE
        assert "nothing was started" in ran.err


# Configuration


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[roles.ward]\ncolour = 1", "roles.ward.colour: unknown; there are tables"),
        ("[roles.ward.tables]\npatients = { colums = [] }", "roles.ward.tables.patients.colums: unknown"),
        ("[roles.ward.tables]\npatients = { rows = { a = true } }", "roles.ward.tables.patients.rows.a: a column is"),
        ("[roles.ward.tables]\npatients = { rows = { a = { klaim = 'x' } } }", "rows.a.klaim: unknown"),
        ("[[api_keys]]\nname = 'x'\nrole = 'ward'", "api_keys[0].sha256: missing"),
        ("[[api_keys]]\nname = 'x'\nsha256 = 'vk_x'\nrole = 'ward'", "api_keys[0].sha256: the SHA-256 of a key is 64"),
        (f"[[api_keys]]\nname = 'x'\nsha256 = '{'0' * 64}'\nrole = 'no'", "api_keys[0].role: there is no role 'no'"),
        ("anonymous = 'no'", "anonymous: there is no role 'no'"),
        ("[streams]\nretry_ms = 0.5", "streams.retry_ms: a whole number is wanted"),
        ("[streams]\nstall_seconds = 0", "streams.stall_seconds: a number above 0"),
        ("[jwt]\nalgorithms = ['HS256']", "jwt: give one of secret_file"),
        ("[jwt]\nalgorithms = ['none']\nsecret_file = 'server.toml'", "jwt.algorithms: none does not go with"),
        ("[jwt]\nalgorithms = ['HS256']\npublic_key_file = 'server.toml'", "jwt.algorithms: HS256 does not go with"),
        ("[jwt]\nalgorithms = ['HS256']\nsecret_file = 'nowhere'", "jwt.secret_file: "),
        ("roles = 5", "roles: a table is wanted"),
        ("x = = 5", "is not TOML"),
    ],
)
def test_a_mistake_in_the_configuration_is_named_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        settings(tmp_path, text, "")
    assert place in str(raised.value)
    assert "server.toml" in str(raised.value)
