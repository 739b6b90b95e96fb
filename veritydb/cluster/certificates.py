"""A cluster's own certificate authority, for mutual TLS where there is no other.

One authority a cluster, made by ``veritydb cluster init``; it signs a certificate for each member and for each client.
Nodes and clients accept what it has signed and nothing else. Who has an authority of his own gives its certificates in
``node.toml`` and ``client.toml`` instead.
"""

from __future__ import annotations

import datetime
import ssl
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veritydb.errors import ConfigurationError

DAYS = 3650
"""Certificates are valid for so long; renewing them is a rolling restart with new files."""


class Issued(NamedTuple):
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Role(Enum):
    """What a certificate is for."""

    MEMBER = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    """It cannot stand for a node: whoever dials a node refuses a certificate that is not for servers."""


def make_authority(name: str, now: datetime.datetime) -> Issued:
    """Return a new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    certificate = (
        _builder(subject, subject, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _issued(certificate, key)


def issue(authority: Issued, name: str, now: datetime.datetime, *, role: Role) -> Issued:
    """Return a certificate for ``name``, signed by ``authority``."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(name), issuer.subject, key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(role.value), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _issued(certificate, key)


def context(authority: Path, certificate: Path, key: Path, *, server: bool) -> ssl.SSLContext:
    """Return what both sides of a connection use: TLS 1.3, and a certificate of this authority from the other side.

    Raises ConfigurationError naming the file that cannot be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False  # Members move between machines; that it is one of the cluster's is what counts.
    made.verify_mode = ssl.CERT_REQUIRED
    try:
        made.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{authority} is no certificate of an authority: {error}") from error
    try:
        made.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{certificate} and {key} are no certificate and its key: {error}") from error
    return made


def check_own(server: ssl.SSLContext, client: ssl.SSLContext, certificate: Path) -> None:
    """Raise ConfigurationError if other members would not let a member with this certificate in.

    It speaks with itself, in memory, so that what is checked is what they check. They could only hang up.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    try:
        while sides:
            for side in tuple(sides):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                sides.remove(side)
    except ssl.SSLCertVerificationError as error:
        raise ConfigurationError(f"the other members would not take {certificate}: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise ConfigurationError(f"no TLS with {certificate}: {error.reason or error}") from error


def check_time(certificate: Path, now: datetime.datetime) -> None:
    """Raise ConfigurationError if a certificate has expired, or is not valid yet.

    Its own side has to look: the other one only hangs up.
    """
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    if now > found.not_valid_after_utc:
        raise ConfigurationError(f"{certificate} has expired, on {found.not_valid_after_utc:%Y-%m-%d}")
    if now < found.not_valid_before_utc:
        raise ConfigurationError(
            f"{certificate} is valid from {found.not_valid_before_utc:%Y-%m-%d} on; is the clock right?"
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
