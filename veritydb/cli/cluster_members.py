"""``veritydb cluster add | remove | replace-disk``: who the members are, one step at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veritydb.cli.cluster_status import group_in
from veritydb.cli.options import Json
from veritydb.cli.output import write_json
from veritydb.errors import ConfigurationError, OperationalError

if TYPE_CHECKING:
    from veritydb.cluster.config import Address
    from veritydb.cluster.local import LocalMember
    from veritydb.cluster.overview import Overview

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Where authority, secret and admin are.", show_default=False)
]
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Of the member.", show_default=False)]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long it may take.", min=0.1)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="veritydb cluster add cluster --address 10.0.3.1:7400")(add)
    app.command(epilog="veritydb cluster remove cluster 3")(remove)
    app.command("replace-disk", epilog="veritydb cluster replace-disk cluster 2")(replace_disk)


def add(
    folder: Folder,
    address: Annotated[str, typer.Option("--address", metavar="HOST:PORT", help="Of the new member.")],
    timeout: Timeout = 300.0,
    json: Json = False,
) -> None:
    """Add a member: it follows the others until it has what they have, and then takes office.

    Where the members run on this machine (veritydb cluster start), all is done here. Elsewhere it says what to do on
    the other machines, and waits for it. The same command goes on where it was interrupted.
    """
    from veritydb.cluster.changing import in_office, prepare, reconfigure
    from veritydb.cluster.config import parse_address

    where = parse_address(address)
    now = in_office(_look(folder))
    number = prepare(folder, where, now)
    changed = _tell_all(folder, number, where)
    local = _local(folder)
    new = local[number]
    if any(one.pid() is not None for one in local.values() if one.member != number):
        new.start()
    elif not json:
        typer.echo(f'1. on every machine, into [members] of node.toml: {number} = "{where}"; then kill -HUP the node')
        typer.echo(f"2. carry {new.path.parent} to {where.host}, and there: veritydb node run --config node.toml")
        typer.echo(f'3. clients: into [members] of client.toml: {number} = "{where}"')
    reconfigure(folder, (*now.members, number), timeout, _waits(json))
    if json:
        write_json({"member": number, "members": [*now.members, number], "changed": [str(path) for path in changed]})
    else:
        typer.echo(f"member {number} at {where} is in office")


def remove(folder: Folder, member: Number, timeout: Timeout = 60.0, json: Json = False) -> None:
    """Remove a member: the others go on without it. Its number is not used again."""
    from veritydb.cluster.changing import in_office, reconfigure

    now = in_office(_look(folder))
    rest = tuple(one for one in now.members if one != member)
    known = member in _local(folder) or (folder / f"node-{member}").exists()
    if member not in now.members and not known:
        raise ConfigurationError(f"there is no member {member}; nothing was changed")
    if not rest:
        raise ConfigurationError(f"member {member} is the only one; nothing was changed")
    if member in now.members:
        reconfigure(folder, rest, timeout, _waits(json))
    changed = _tell_all(folder, member, None)
    gone = _local(folder).get(member)
    if gone is not None:
        gone.stop(timeout)
    if json:
        write_json({"member": member, "members": list(rest), "changed": [str(path) for path in changed]})
    else:
        typer.echo(f"member {member} is out of office; {folder / f'node-{member}'} may be kept or deleted")


def replace_disk(folder: Folder, member: Number, timeout: Timeout = 300.0, json: Json = False) -> None:
    """Make a new disk for a member whose disk is gone, and have it fetch everything from the others.

    The member must not run. Its folder node-N in FOLDER gets the new data/replica: where the member is on another
    machine, carry it there. What is left of an old one stays beside it. Never start a member on an empty or restored
    disk that was made in another way: it would deny what it has acknowledged.
    """
    from veritydb.cluster import changing

    seen = _look(folder)
    now = changing.in_office(seen)
    if any(one.member == member and one.document is not None for one in seen.members):
        raise OperationalError(f"member {member} runs; stop it first. Nothing was changed")
    home = changing.replace_disk(folder, member, now, lambda: _look(folder), seconds=timeout)
    local = _local(folder)
    here = any(one.pid() is not None for one in local.values())
    if here:
        local[member].start()
        # The others, too: the new disk begins in a later view, to which they follow. Not who was missing before.
        _until_ready(folder, {member, *(one.member for one in seen.members if one.counts and one.is_ready)}, timeout)
    if json:
        write_json({"member": member, "disk": str(home), "started": here})
    elif here:
        typer.echo(f"member {member} has a new disk, and what the others have")
    else:
        typer.echo(f"carry {home} to the machine of member {member}, into its data folder, and start it")


def _look(folder: Path) -> Overview:
    import anyio

    from veritydb.cluster.watching import Watch

    group = group_in(folder)

    async def look() -> Overview:
        async with Watch(group) as watch:
            return await watch.look()

    return anyio.run(look)


def _until_ready(folder: Path, members: set[int], seconds: float) -> None:
    import anyio

    from veritydb.cluster.watching import Watch

    group = group_in(folder)

    async def wait() -> None:
        async with Watch(group) as watch:
            await watch.until_ready(members, seconds)

    anyio.run(wait)


def _local(folder: Path) -> dict[int, LocalMember]:
    from veritydb.cluster.local import LocalMember

    return {one.member: one for one in map(LocalMember, folder.glob("node-*/node.toml"))}


def _tell_all(folder: Path, member: int, where: Address | None) -> list[Path]:
    """Write a member's address, or that it has none, into all files here, and have the nodes here read them."""
    from veritydb.cluster.changing import address_books, set_address

    own = folder / f"node-{member}" / "node.toml"  # It keeps its own address, to say in its last words where it was.
    changed = [path for path in address_books(folder) if path != own and set_address(path, member, where)]
    for one in _local(folder).values():
        pid = one.pid()
        if pid is not None and one.member != member:
            os.kill(pid, signal.SIGHUP)
    return changed


def _waits(json: bool) -> Callable[[str], None]:
    def tell(why: str) -> None:
        if not json:
            typer.echo(f"waiting: {why}", err=True)

    return tell
