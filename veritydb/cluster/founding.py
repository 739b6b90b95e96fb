"""Making what a cluster begins with: its id, its secret, its certificates, and each member's empty disk.

``veritydb cluster init`` calls :func:`found`. The folder of a member is all that it needs, and so is that of a client;
carry each to its machine. What stays, ``authority.key`` and ``secret``, makes further members and clients: keep it
where no node is.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from pathlib import Path

from veritydb import kernel
from veritydb.cluster.certificates import Issued, Role, issue, make_authority
from veritydb.cluster.clients import check_client_name, make_client
from veritydb.cluster.config import SLOTS, Address, read_client_config, read_secret
from veritydb.cluster.disk import format_disk
from veritydb.cluster.files import replace, write_new
from veritydb.cluster.rights import DEFAULT, Right, parse_rights, read_rights, with_client
from veritydb.errors import ConfigurationError
from veritydb.vsr.effects import Image
from veritydb.vsr.entry import root_entry
from veritydb.vsr.recovery import blank
from veritydb.vsr.superblock import COPIES, as_copy, encode, first_superblock


def found(folder: Path, members: Mapping[int, Address], *, slots: int = SLOTS) -> list[Path]:
    """Make a cluster of these members in ``folder``; return each one's ``node.toml``.

    Raises ConfigurationError if the folder exists.
    """
    if folder.exists():
        raise ConfigurationError(f"{folder} exists; nothing was changed")
    folder.mkdir(parents=True, mode=0o700)
    cluster = secrets.token_bytes(16)
    secret = secrets.token_hex(32)
    now = datetime.datetime.now(datetime.UTC)
    authority = make_authority(f"VerityDB cluster {cluster.hex()[:8]}", now)
    write_new(folder / "authority.crt", authority.certificate)
    write_new(folder / "authority.key", authority.key)
    write_new(folder / "secret", secret.encode() + b"\n")
    paths: list[Path] = []
    for member in members:
        home = make_node(folder, cluster, member, members, slots=slots)
        format_member(home / "data" / "replica", cluster, member, tuple(members), slots=slots)
        paths.append(home / "node.toml")
    for name in ("client", "admin"):
        make_client(
            folder / name,
            name=name,
            cluster=cluster,
            secret=bytes.fromhex(secret),
            authority=authority,
            members=members,
        )
    return paths


def make_node(
    folder: Path, cluster: bytes, member: int, members: Mapping[int, Address], *, slots: int, rights: Path | None = None
) -> Path:
    """Make a member's folder, but for its disk; ``rights`` is the file that it gets a copy of.

    Raises ConfigurationError if the cluster's authority or secret is not in ``folder``.
    """
    authority = read_authority(folder)
    secret = read_secret(folder / "secret")
    home = folder / f"node-{member}"
    home.mkdir(mode=0o700)
    _write_identity(home, authority, f"member-{member}")
    write_new(home / "secret", secret.hex().encode() + b"\n")
    write_new(home / "rights.toml", DEFAULT.encode() if rights is None else rights.read_bytes())
    write_new(home / "node.toml", _node_toml(cluster, member, members, slots))
    (home / "data").mkdir(mode=0o700)
    return home


def add_client(
    folder: Path, name: str, rights: Mapping[Right, list[str]], *, administer: bool = False
) -> tuple[Path, list[Path], str]:
    """Make a client's folder beside the cluster's others, and give it its rights in the nodes' folders that are here.

    Returns the folder, the ``rights.toml`` that were changed, and what each node's has to say. Raises
    ConfigurationError before anything is changed.
    """
    check_client_name(name)
    admin = read_client_config(folder / "admin")
    section = with_client("", name, rights, administer=administer).lstrip()
    parse_rights(section, admin.cluster)
    changes: dict[Path, bytes] = {}
    for path in sorted(folder.glob("node-*/rights.toml")):
        read_rights(path, admin.cluster)
        try:
            changed = with_client(path.read_text(encoding="utf-8"), name, rights, administer=administer)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}; nothing was changed") from None
        changes[path] = changed.encode()
    home = folder / f"client-{name}"
    make_client(
        home,
        name=name,
        cluster=admin.cluster,
        secret=read_secret(folder / "secret"),
        authority=read_authority(folder),
        members=admin.members,
    )
    for path, text in changes.items():
        replace(path, text)
    return home, list(changes), section


def read_authority(folder: Path) -> Issued:
    """Return the cluster's authority. Raises ConfigurationError if its key is not here."""
    try:
        return Issued((folder / "authority.crt").read_bytes(), (folder / "authority.key").read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{folder} does not have the cluster's authority: {error}") from error


def format_member(
    folder: Path,
    cluster: bytes,
    member: int,
    members: tuple[int, ...],
    *,
    slots: int = SLOTS,
    epoch: int = 0,
    view: int = 0,
) -> None:
    """Make an empty disk. ``view`` above 0 is for a member whose disk was lost: docs/internals/vsr.md.

    Who is not one of the ``members``, who are in office in ``epoch``, begins as a learner.
    """
    root = root_entry(cluster)
    snapshot = kernel.snapshot(kernel.EMPTY)
    block = first_superblock(
        cluster=cluster, member=member, members=members, root=root.header, snapshot=snapshot, view=view
    )._replace(epoch=epoch)
    data = encode(block)
    entries = [blank(slot) for slot in range(slots)]
    headers = list(entries)
    entries[0], headers[0] = root.raw, root.header.raw
    format_disk(
        folder,
        Image(
            superblock=tuple(as_copy(data, number) for number in range(COPIES)),
            entries=tuple(entries),
            headers=tuple(headers),
            snapshots={block.checkpoint.root: snapshot},
        ),
    )


def _write_identity(home: Path, authority: Issued, name: str) -> None:
    issued = issue(authority, name, datetime.datetime.now(datetime.UTC), role=Role.MEMBER)
    write_new(home / "authority.crt", authority.certificate)
    write_new(home / f"{name}.crt", issued.certificate)
    write_new(home / f"{name}.key", issued.key)


def _node_toml(cluster: bytes, member: int, members: Mapping[int, Address], slots: int) -> bytes:
    lines = [
        f'cluster = "{cluster.hex()}"',
        f"member = {member}",
        'data = "data"',
        'secret_file = "secret"',
        'authority = "authority.crt"',
        f'certificate = "member-{member}.crt"',
        f'key = "member-{member}.key"',
        'rights_file = "rights.toml"',
        f"slots = {slots}",
        "",
        "[members]",
        *(f'{number} = "{address}"' for number, address in members.items()),
        "",
    ]
    return "\n".join(lines).encode()
