"""Who is let in, over which connection, and that no secret gets anywhere else."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import logging
import os
import secrets
import socket
import threading

import nkeys
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import veritydb
from tests.cluster.machines import KEY
from tests.cluster.nats_servers import needed, servers
from veritydb import follower
from veritydb.errors import ConfigurationError, GroupUnavailable, NotPermitted

PASSWORD = "s3cretSauce"


@pytest.fixture
def at(tmp_path):
    """Commit one row, over a server with these settings; return what is there then."""

    def run(address, stream="clinic", timeout=20.0):
        path = tmp_path / secrets.token_hex(4)
        path.mkdir()
        with contextlib.closing(
            veritydb.connect(path / "clinic.db", key=KEY, cluster=address, stream=stream, timeout=timeout)
        ) as db:
            db.execute("CREATE TABLE IF NOT EXISTS notes (text)")
            with db:
                db.execute("INSERT INTO notes VALUES ('seen')")
            return db.execute("SELECT text FROM notes").fetchall()

    yield run
    follower.stop_all()


def certificate(folder, name):
    """Make a certificate for 127.0.0.1 that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / f"{name}.crt").write_bytes(made.public_bytes(encoding))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / f"{name}.crt", folder / f"{name}.key"


@needed
def test_a_server_is_believed_if_the_authority_has_signed_and_a_client_if_it_shows_a_certificate(tmp_path, at):
    (server, key), (other, _) = certificate(tmp_path, "server"), certificate(tmp_path, "other")
    client, client_key = certificate(tmp_path, "client")
    tls = f'tls {{ cert_file: "{server}", key_file: "{key}", ca_file: "{client}", verify: true }}'
    with servers(tmp_path / "s", more=tls) as made:
        mine = f"&certificate={client}&key={client_key}"
        assert at(f"{made.address}&authority={server}{mine}") == [("seen",)]
        for wrong in (f"&authority={other}{mine}", mine, f"&authority={server}"):
            with pytest.raises(GroupUnavailable, match="NATS has not answered in time"):
                at(made.address + wrong, timeout=0.5)
        with pytest.raises(ConfigurationError, match="certificates for NATS cannot be used"):
            at(f"{made.address}&authority={tmp_path / 'missing.crt'}")


def test_who_asks_for_tls_says_nothing_to_a_server_that_does_not(tmp_path, at):
    """The client library would go on in clear text, with the password."""
    heard = b""

    def serve(listening):
        nonlocal heard
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    info = {"server_id": "x", "version": "2.15.0", "max_payload": 1 << 20, "headers": True}
                    connection.sendall(b"INFO " + json.dumps(info).encode() + b"\r\n")
                    connection.settimeout(0.1)
                    heard += connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        with pytest.raises(GroupUnavailable, match=r"(?i)secure connection"):
            at(f"tls://app:{PASSWORD}@127.0.0.1:{listening.getsockname()[1]}", timeout=3)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert heard == b""


@needed
def test_a_password_and_a_token_let_in_and_are_shown_nowhere(tmp_path, at, caplog):
    caplog.set_level(logging.DEBUG)
    users = f'authorization {{ users: [ {{ user: "app", password: "{PASSWORD}" }} ] }}'
    said = []
    with servers(tmp_path / "u", more=users) as made:
        assert at(made.with_user(f"app:{PASSWORD}")) == [("seen",)]
        for wrong in (f"app:{PASSWORD}x", f"{PASSWORD}y"):
            with pytest.raises(NotPermitted, match=r"does not let this client in; nothing was written") as refused:
                at(made.with_user(wrong))
            said.append(str(refused.value))
    with servers(tmp_path / "t", more=f'authorization {{ token: "{PASSWORD}" }}') as made:
        assert at(made.with_user(PASSWORD)) == [("seen",)]
    assert PASSWORD not in caplog.text + "".join(said)


def seed(prefix):
    return nkeys.encode_seed(os.urandom(32), prefix)


@needed
def test_an_nkey_lets_in(tmp_path, at):
    mine = seed(nkeys.PREFIX_BYTE_USER)
    (tmp_path / "app.nk").write_bytes(mine)
    public = nkeys.from_seed(bytearray(mine)).public_key.decode()
    with servers(tmp_path / "n", more=f"authorization {{ users: [ {{ nkey: {public} }} ] }}") as made:
        assert at(f"{made.address}&nkey={tmp_path / 'app.nk'}") == [("seen",)]
        with pytest.raises(ConfigurationError, match=r"the credentials .*none.nk cannot be read"):
            at(f"{made.address}&nkey={tmp_path / 'none.nk'}")


def token(issuer, subject, kind, more):
    """Return a JWT as NATS has them."""

    def encoded(data):
        return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=")

    claims = {"jti": "x", "iat": 1, "iss": issuer.public_key.decode(), "name": kind, "sub": subject.public_key.decode()}
    claims["nats"] = {"type": kind, "version": 2, **more}
    signed = encoded({"typ": "JWT", "alg": "ed25519-nkey"}) + b"." + encoded(claims)
    return (signed + b"." + base64.urlsafe_b64encode(issuer.sign(signed)).rstrip(b"=")).decode()


@needed
def test_credentials_let_in(tmp_path, at, monkeypatch):
    mine = seed(nkeys.PREFIX_BYTE_USER)
    prefixes = (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_ACCOUNT)
    operator, account, system = (nkeys.from_seed(bytearray(seed(prefix))) for prefix in prefixes)
    names = ("subs", "data", "payload", "conn", "leaf", "imports", "exports")
    least = {"wildcards": True, **dict.fromkeys(names, -1)}
    limits = {**least, "consumer": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1}
    accounts = ", ".join(
        f"{each.public_key.decode()}: {token(operator, each, 'account', {'limits': may})}"
        for each, may in ((account, limits), (system, least))
    )
    user = token(account, nkeys.from_seed(bytearray(mine)), "user", {"subs": -1, "data": -1, "payload": -1})
    (tmp_path / "app.creds").write_text(
        f"-----BEGIN NATS USER JWT-----\n{user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{mine.decode()}\n------END USER NKEY SEED------\n"
    )
    more = (
        f"operator: {token(operator, operator, 'operator', {})}\nresolver: MEMORY\n"
        f"resolver_preload {{ {accounts} }}\nsystem_account: {system.public_key.decode()}"
    )
    with servers(tmp_path / "c", more=more) as made:
        monkeypatch.setenv("VERITYDB_CREDENTIALS", str(tmp_path / "app.creds"))
        assert at(made.address) == [("seen",)]
        monkeypatch.delenv("VERITYDB_CREDENTIALS")
        with pytest.raises(NotPermitted):
            at(made.address)


@needed
def test_who_may_only_read_is_told_so_at_once_and_nothing_is_written(tmp_path):
    api = "$JS.API.STREAM"
    reads = f'publish: ["{api}.INFO.VERITYDB_clinic", "{api}.MSG.GET.VERITYDB_clinic"]'
    users = f"""authorization {{ users: [
        {{ user: writer, password: w }}
        {{ user: reader, password: r, permissions: {{ {reads}, subscribe: ["_INBOX.>", "veritydb.clinic"] }} }} ] }}"""
    with servers(tmp_path / "p", more=users) as made:
        a, b = tmp_path / "a.db", tmp_path / "b.db"
        with contextlib.closing(
            veritydb.connect(a, key=KEY, cluster=made.with_user("writer:w"), stream="clinic")
        ) as db:
            db.execute("CREATE TABLE notes (text)")
        with contextlib.closing(
            veritydb.connect(b, key=KEY, cluster=made.with_user("reader:r"), stream="clinic", timeout=60)
        ) as db:
            with pytest.raises(NotPermitted, match=r'(?i)permissions violation for publish to "veritydb\.clinic"'):
                db.execute("INSERT INTO notes VALUES ('not mine to write')")
                db.commit()
            assert db.execute("SELECT * FROM notes").fetchall() == []
        follower.stop_all()
