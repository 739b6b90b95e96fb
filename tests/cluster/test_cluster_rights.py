"""Who may do what: the file, the names in certificates, and real nodes that refuse over real TLS."""

from __future__ import annotations

import contextlib
import datetime
import logging
import random
import secrets
import signal
import socket
import ssl
import time
import tomllib
from collections import Counter

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.cluster.groups import PATIENCE, PLACEMENT, Stream, cluster, free_port
from tests.support.node import record
from veritydb import NotPermitted, kernel
from veritydb.cluster.admission import Admission, names_in, needed
from veritydb.cluster.certificates import Role, issue
from veritydb.cluster.clients import group_of, make_client
from veritydb.cluster.config import Address, read_client_config
from veritydb.cluster.founding import add_client, found, read_authority
from veritydb.cluster.naming import stream_id
from veritydb.cluster.rights import DEFAULT, Right, Rights, parse_rights, read_rights, with_client
from veritydb.cluster.session import GroupUnavailable, Session
from veritydb.errors import ConfigurationError
from veritydb.vsr.messages import FetchRecords, ReadRequest, Reconfigure, Request
from veritydb.vsr.wire import encode

CLUSTER = bytes(range(16))
CLINIC = stream_id(CLUSTER, "clinic")
OTHER = stream_id(CLUSTER, "other")


def rights(text, *names):
    return parse_rights(text, CLUSTER).of(names)


def test_a_stream_is_named_or_given_by_its_id():
    granted = rights(f'[app]\nread = ["clinic", "{OTHER.hex()}"]', "app")
    assert granted.allow(Right.READ, CLINIC)
    assert granted.allow(Right.READ, OTHER)
    assert not granted.allow(Right.READ, stream_id(CLUSTER, "third"))
    assert not granted.allow(Right.APPEND, CLINIC)
    assert not granted.allow(Right.READ, None)


def test_who_may_append_may_read_and_no_more():
    granted = rights('[app]\nappend = ["clinic"]', "app")
    assert granted.allow(Right.APPEND, CLINIC)
    assert granted.allow(Right.READ, CLINIC)
    assert not granted.allow(Right.CREATE, CLINIC)
    assert not granted.allow(Right.ADMINISTER, None)


def test_who_administers_may_everything():
    granted = rights("[app]\nadminister = true", "app")
    assert all(granted.allow(right, stream) for right in Right for stream in (CLINIC, None))


def test_a_star_is_every_stream():
    granted = rights('[app]\nread = ["*"]', "app")
    assert granted.allow(Right.READ, CLINIC)
    assert granted.allow(Right.READ, None)
    assert not granted.allow(Right.APPEND, CLINIC)


def test_sections_whose_name_fits_add_up():
    text = '["site-*"]\nread = ["clinic"]\n[site-1]\nappend = ["other"]\n[x]\nadminister = true'
    granted = rights(text, "site-1")
    assert granted.allow(Right.READ, CLINIC)
    assert granted.allow(Right.APPEND, OTHER)
    assert not granted.allow(Right.ADMINISTER, None)
    assert rights(text, "site-2", "www.example.org") == rights(text, "site-2")


def test_whom_no_section_fits_may_nothing():
    assert rights(DEFAULT, "somebody") == Rights()
    assert rights(DEFAULT) == Rights()


def test_the_default_lets_clients_write_and_only_the_admin_administer():
    assert rights(DEFAULT, "client").allow(Right.CREATE, CLINIC)
    assert not rights(DEFAULT, "client").allow(Right.ADMINISTER, None)
    assert rights(DEFAULT, "admin").allow(Right.ADMINISTER, None)
    assert rights(DEFAULT, "member-7").allow(Right.READ, CLINIC)
    assert not rights(DEFAULT, "member-7").allow(Right.APPEND, CLINIC)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("app = 1", "app must be a section"),
        ("[app]\nwrite = []", "has 'write'; known are read, append, create, administer"),
        ('[app]\nread = "clinic"', "read is a list of streams' names"),
        ("[app]\nread = [1]", "read is a list of streams' names"),
        ('[app]\nread = ["a*"]', "no \\* and no spaces"),
        ("[app]\nadminister = 1", "administer is true or false"),
        ("[app", "cannot be read"),
        ("\\xff", "cannot be read"),
        ("#" * (1 << 20) + "#", "more than 1048576 bytes"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, text, why):
    path = tmp_path / "rights.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=why) as raised:
        read_rights(path, CLUSTER)
    assert "rights.toml" in str(raised.value)


def test_a_section_for_one_more_client_is_added_once():
    text = with_client(DEFAULT, "app.1", {Right.READ: ['a "b"', "*"], Right.APPEND: []}, administer=False)
    assert tomllib.loads(text)["app.1"] == {"read": ['a "b"', "*"]}
    assert text.startswith(DEFAULT.rstrip())
    with pytest.raises(ConfigurationError, match="already"):
        with_client(text, "app.1", {}, administer=True)


@pytest.mark.parametrize(
    ("command", "right", "stream"),
    [
        (kernel.Register(), None, None),
        (kernel.CreateStream(CLINIC, PLACEMENT), Right.CREATE, CLINIC),
        (kernel.CreateStream(kernel.AUTOMATIC, PLACEMENT), Right.CREATE, None),
        (kernel.Append((), record(stream=CLINIC)), Right.APPEND, CLINIC),
        (kernel.Append((bytes(16), bytes([1]) * 16), record(stream=CLINIC)), Right.APPEND, CLINIC),
        (kernel.Resolve(CLINIC, bytes(16), 0), Right.APPEND, CLINIC),
        (kernel.ListStreams(0, 10), Right.READ, None),
    ],
)
def test_what_a_command_needs(command, right, stream):
    assert needed(Request(bytes(16), 1, 1, kernel.encode_command(command), 0)) == (right, stream)


def test_what_other_messages_need():
    assert needed(ReadRequest(bytes(16), 1, CLINIC)) == (Right.READ, CLINIC)
    assert needed(FetchRecords(bytes(16), 1, CLINIC, 0, 100, bytes(32), 0)) == (Right.READ, CLINIC)
    assert needed(Reconfigure(bytes(16), 1, (1, 2), 0)) == (Right.ADMINISTER, None)


def test_the_names_in_a_certificate():
    subject = ((("countryName", "DE"),), (("commonName", "app"),))
    alternative = (("DNS", "app.example.org"), ("IP Address", "10.0.0.1"))
    assert names_in({"subject": subject, "subjectAltName": alternative}) == {"app", "app.example.org"}
    assert names_in(None) == names_in({}) == frozenset()


@pytest.fixture
def admission(tmp_path):
    path = tmp_path / "rights.toml"
    path.write_text('[app]\nread = ["clinic"]')
    made = Admission(path, CLUSTER, Counter())
    made.path = path
    return made


APP = {"subject": ((("commonName", "app"),),)}


def test_a_refusal_is_counted_and_logged_once(admission, caplog):
    caplog.set_level(logging.INFO)
    visitor = admission.enter(APP)
    for _ in range(3):
        why = admission.refusal(visitor, ReadRequest(bytes(16), 1, OTHER))
        assert why == f"app has no right to read {OTHER.hex()}"
    assert admission.refusal(visitor, ReadRequest(bytes(16), 1, CLINIC)) is None
    assert admission._counts == {"refused: no right to read": 3}
    assert [entry.fields["why"] for entry in caplog.records] == [f"app has no right to read {OTHER.hex()}"]


def test_who_has_no_rights_begins_no_session(admission):
    register = Request(bytes(16), 0, 0, kernel.encode_command(kernel.Register()), 0)
    assert admission.refusal(admission.enter(APP), register) is None
    assert admission.refusal(admission.enter({}), register) == "a client without a name has no rights here"


def test_what_is_no_command_is_refused(admission):
    visitor = admission.enter(APP)
    assert "no command" in admission.refusal(visitor, Request(bytes(16), 1, 1, b"x", 0))
    cut = kernel.encode_command(kernel.Append((), record(stream=CLINIC)))[:100]
    assert admission.refusal(visitor, Request(bytes(16), 1, 1, cut, 0)) is not None


def test_rights_that_are_read_again_hold_for_who_is_there(admission, caplog):
    visitor = admission.enter(APP)
    message = ReadRequest(bytes(16), 1, OTHER)
    assert admission.refusal(visitor, message) is not None
    admission.path.write_text('[app]\nread = ["*"]')
    admission.reload()
    assert admission.refusal(visitor, message) is None
    admission.path.write_text("[app")
    admission.reload()
    assert admission.refusal(visitor, message) is None
    assert "rights stay as they were" in caplog.text
    admission.path.write_text("")
    admission.leave(visitor)
    admission.reload()
    assert admission.refusal(visitor, message) is None  # Nobody is there any more.


def test_a_client_is_made_with_its_rights(tmp_path):
    folder = tmp_path / "cluster"
    found(folder, {1: Address("127.0.0.1", 1)}, slots=64)
    home, changed, section = add_client(folder, "clinic", {Right.APPEND: ["clinic"]})
    assert changed == [folder / "node-1/rights.toml"]
    config = read_client_config(home)
    clinic = stream_id(config.cluster, "clinic")
    assert read_rights(changed[0], config.cluster).of(["clinic"]).allow(Right.APPEND, clinic)
    assert section == '["clinic"]\nappend = ["clinic"]\n'
    before = changed[0].read_bytes()
    for name, why in (("clinic", "already"), ("member-2", "client's name"), ("client", "already")):
        with pytest.raises(ConfigurationError, match=why):
            add_client(folder, name, {Right.READ: ["*"]})
    with pytest.raises(ConfigurationError, match="stream's name"):
        add_client(folder, "new", {Right.READ: [""]})
    assert changed[0].read_bytes() == before
    assert not (folder / "client-new").exists()


# ---- a real node


@pytest.fixture
def alone(tmp_path):
    with cluster(tmp_path / "cluster", 1) as made:
        made.start_all()
        wait_for(made, "listening")
        yield made


def client(made, name, **granted):
    home, _, _ = add_client(made.folder, name, {Right(right): streams for right, streams in granted.items()})
    made.nodes[1].send_signal(signal.SIGHUP)
    wait_for(made, "rights read again")
    return Session(group_of(read_client_config(home)))


def wait_for(made, words):
    deadline = time.monotonic() + PATIENCE
    while words not in made.output(1):
        assert time.monotonic() < deadline, f"{words!r} is not in {made.output(1)[-2000:]}"
        time.sleep(0.02)


def test_a_client_does_what_it_may_and_is_told_what_it_may_not(alone):
    name = stream_id(alone.config().cluster, "clinic")
    stream = Stream(alone.group(), name).create()
    stream.append()
    reader = client(alone, "reports", read=["clinic"])
    assert reader.read_head(name, timeout=PATIENCE) == (1, stream.hash)
    assert len(reader.fetch(name, 0, bytes_max=1000, timeout=PATIENCE).records) == 1
    refused = [
        lambda: reader.send(kernel.encode_append((), stream.record()), timeout=PATIENCE),
        lambda: reader.command(kernel.Resolve(name, secrets.token_bytes(16), 0), timeout=PATIENCE),
        lambda: reader.command(kernel.CreateStream(name, PLACEMENT), timeout=PATIENCE),
        lambda: reader.command(kernel.ListStreams(0, 10), timeout=PATIENCE),
        lambda: reader.read_head(secrets.token_bytes(16), timeout=PATIENCE),
        lambda: reader.fetch(secrets.token_bytes(16), 0, bytes_max=1000, timeout=PATIENCE),
    ]
    for ask in refused:
        with pytest.raises(NotPermitted, match=r"reports has no right to .*; nothing was done"):
            ask()
    assert reader.read_head(name, timeout=PATIENCE) == (1, stream.hash)
    stream.append()  # And the refused ones have not used up anybody's number.
    output = alone.output(1)
    assert f'refused why="reports has no right to append {name.hex()}"' in output
    assert 'refused why="reports has no right to read every stream"' in output
    for text in (alone.folder / "secret", alone.folder / "client-reports/client.secret"):
        assert text.read_text().strip() not in output
    reader.close()
    stream.close()


def test_a_client_that_lost_its_rights_is_refused_on_the_connection_it_has(alone):
    name = stream_id(alone.config().cluster, "clinic")
    writer = client(alone, "app", append=["clinic"], create=["clinic"])
    assert isinstance(writer.command(kernel.CreateStream(name, PLACEMENT), timeout=PATIENCE), kernel.Created)
    path = alone.folder / "node-1/rights.toml"
    path.write_text(DEFAULT)
    seen = alone.output(1).count("rights read again")
    alone.nodes[1].send_signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while alone.output(1).count("rights read again") == seen:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(NotPermitted, match="app has no right"):
        writer.command(kernel.Resolve(name, bytes(16), 0), timeout=PATIENCE)
    with pytest.raises(NotPermitted, match="app has no rights here"):
        writer.command(kernel.Resolve(name, bytes(16), 0), timeout=PATIENCE)
    writer.close()


def test_only_who_administers_changes_members_even_with_the_members_secret(alone):
    secret = alone.config().secret_file
    session = Session(group_of(read_client_config(alone.folder / "client"), secret=secret))
    with pytest.raises(NotPermitted, match="no right to administer"):
        session.reconfigure((1,), epoch=0, timeout=PATIENCE)
    session.close()
    admin = Session(group_of(read_client_config(alone.folder / "admin"), secret=secret))
    assert admin.reconfigure((1,), epoch=0, timeout=PATIENCE).accepted
    admin.close()


def handshake(made, context):
    """Try to speak TLS with the node; return what came of it."""
    with socket.create_connection(made.config().address, timeout=PATIENCE) as plain:
        try:
            with context.wrap_socket(plain) as tls:
                return tls.recv(1)  # TLS 1.3: a client learns here that its certificate was refused.
        except OSError as error:
            return error


def test_who_has_no_certificate_of_the_authority_is_refused_and_counted(alone, tmp_path):
    stream = Stream(alone.group()).create()
    config = read_client_config(alone.folder / "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(config.authority)

    assert isinstance(handshake(alone, context), OSError | bytes)
    wait_for(alone, 'why="no certificate"')

    found(tmp_path / "other", {1: Address("127.0.0.1", free_port())}, slots=64)
    other = read_client_config(tmp_path / "other/client")
    context.load_cert_chain(other.certificate, other.key)
    handshake(alone, context)
    wait_for(alone, 'why="certificate: ')

    # The server's certificate is refused by who trusts another authority.
    suspicious = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    suspicious.check_hostname = False
    suspicious.load_verify_locations(other.authority)
    suspicious.load_cert_chain(config.certificate, config.key)
    assert isinstance(handshake(alone, suspicious), ssl.SSLCertVerificationError)

    with socket.create_connection(alone.config().address, timeout=PATIENCE) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in plain.recv(100)
    wait_for(alone, 'why="not TLS"')
    stream.append()
    stream.close()


def test_whatever_a_client_sends_ends_its_own_connection_only(alone):
    """Bytes that are no frame, frames that are cut off, whole ones with a bit turned; from who has a certificate."""
    stream = Stream(alone.group()).create()
    group = alone.group()
    frame = encode(ReadRequest(bytes(16), 1, bytes(16)), cluster=group.cluster, keys=group.keys)
    chance = random.Random(5)
    for number in range(60):
        turned = bytearray(frame)
        turned[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
        sent = (chance.randbytes(chance.randrange(1, 3000)), frame[: chance.randrange(len(frame))], bytes(turned))
        with group.tls.wrap_socket(socket.create_connection(alone.config().address, timeout=PATIENCE)) as tls:
            tls.sendall(frame)
            assert tls.recv(1)
            with contextlib.suppress(OSError):
                tls.sendall(sent[number % 3])
        stream.append()  # On the connection that it has had all the time.
    assert alone.nodes[1].poll() is None
    assert "Traceback" not in alone.output(1)
    stream.close()


def test_certificates_of_ones_own_authority_do_with_what_stands_between(tmp_path):
    """As those of an organisation: RSA keys, and an authority in between, which stands in the certificate's file."""
    now = datetime.datetime.now(datetime.UTC)

    def signed(name, issuer, *, signs):
        key = rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
        issuer_name, issuer_key = (subject, key) if issuer is None else (issuer[0].subject, issuer[1])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=signs, path_length=None), critical=True)
            .sign(issuer_key, hashes.SHA256())
        )
        return made, key

    def write(path, chain, key):
        path.with_suffix(".crt").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
        path.with_suffix(".key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    root = signed("Ward", None, signs=True)
    between = signed("Ward, machines", root, signs=True)
    with cluster(tmp_path / "cluster") as made:
        for folder, name in [*((f"node-{n}", f"member-{n}") for n in (1, 2, 3)), ("client", "client")]:
            certificate, key = signed(name, between, signs=False)
            write(made.folder / folder / name, (certificate, between[0]), key)
            (made.folder / folder / "authority.crt").write_bytes(root[0].public_bytes(Encoding.PEM))
        made.start_all()
        stream = Stream(made.group()).create()
        stream.append()
        stream.close()


def test_an_expired_certificate_is_refused_by_the_node_and_named_by_its_owner(alone):
    folder = alone.folder / "client-old"
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=5000)
    config = read_client_config(alone.folder / "client")
    secret = bytes.fromhex((alone.folder / "secret").read_text())
    authority = read_authority(alone.folder)
    make_client(folder, name="old", cluster=config.cluster, secret=secret, authority=authority, members=config.members)
    issued = issue(authority, "old", long_ago, role=Role.CLIENT)
    (folder / "client.crt").write_bytes(issued.certificate)
    (folder / "client.key").write_bytes(issued.key)
    old = read_client_config(folder)
    with pytest.raises(ConfigurationError, match="has expired"):
        group_of(old)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(old.authority)
    context.load_cert_chain(old.certificate, old.key)
    handshake(alone, context)
    wait_for(alone, 'why="certificate: certificate has expired"')


def test_a_clients_certificate_cannot_stand_for_a_node(alone):
    """Before, whoever had any certificate of the authority could have answered other clients in a node's place."""
    config = read_client_config(alone.folder / "client")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(config.certificate, config.key)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        listening = server.wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
        dialling = group_of(config).tls.wrap_socket(theirs, do_handshake_on_connect=False)
        with listening, dialling, pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
            for _ in range(20):
                for side in (dialling, listening):
                    try:
                        side.do_handshake()
                    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                        pass


def test_who_speaks_of_another_cluster_or_with_another_key_is_hung_up_on_and_counted(alone):
    group = alone.group()
    message = ReadRequest(bytes(16), 1, bytes(16))
    for strange in (group._replace(cluster=bytes(16)), group._replace(keys=group.keys._replace(client=bytes(32)))):
        frame = encode(message, cluster=strange.cluster, keys=strange.keys)
        with group.tls.wrap_socket(socket.create_connection(alone.config().address, timeout=PATIENCE)) as tls:
            tls.sendall(frame)
            assert tls.recv(1) == b""
        session = Session(strange)
        with pytest.raises(GroupUnavailable):
            session.read_head(bytes(16), timeout=0.5)
        session.close()
    wait_for(alone, "because it is of another cluster")
    wait_for(alone, "because its authenticity code is not that of its bytes")
