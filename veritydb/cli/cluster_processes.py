"""``veritydb cluster start | stop | rolling-restart``: the members whose folders are on this machine, as processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veritydb.cli.cluster_status import group_in
from veritydb.errors import ConfigurationError, OperationalError

if TYPE_CHECKING:
    from veritydb.cluster.local import LocalMember

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the cluster's files are.", show_default=False)]
Only = Annotated[
    list[int] | None,
    typer.Option("--member", metavar="NUMBER", help="Only this one; may be repeated.", show_default=False),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long a member may take.", min=0.1)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="veritydb cluster start cluster")(start)
    app.command(epilog="veritydb cluster stop cluster")(stop)
    app.command("rolling-restart", epilog="veritydb cluster rolling-restart cluster")(rolling_restart)


def start(folder: Folder, member: Only = None, timeout: Timeout = 60.0) -> None:
    """Start the members whose folders are here, and wait until they are ready.

    They go on when this command has ended; node-N/node.log is what they say. Members that run already are left alone.
    A member alone is ready when enough of the others run, here or elsewhere.
    """
    import anyio

    from veritydb.cluster.watching import Watch

    members = _chosen(folder, member)
    group = group_in(folder)
    for one in members:
        typer.echo(f"member {one.member}: {'starting' if one.start() else 'runs already'}")

    async def wait() -> None:
        async with Watch(group) as watch:
            await watch.until_ready({one.member for one in members}, timeout, _alive(members))

    anyio.run(wait)
    typer.echo("ready")


def stop(folder: Folder, member: Only = None, timeout: Timeout = 60.0) -> None:
    """Stop the members that start has started, the primary last, and wait until they have ended."""
    import anyio

    from veritydb.cluster.watching import Watch

    members = [one for one in _chosen(folder, member) if one.pid() is not None]
    group = group_in(folder)

    async def primary() -> int | None:
        async with Watch(group) as watch:
            return (await watch.look()).primary

    last = anyio.run(primary) if len(members) > 1 else None
    for one in sorted(members, key=lambda each: each.member == last):
        one.stop(timeout)
        typer.echo(f"member {one.member}: stopped")
    if not members:
        typer.echo("none runs that veritydb cluster start has started")


def rolling_restart(folder: Folder, timeout: Timeout = 60.0) -> None:
    """Restart all members, one at a time, the primary last, while the group goes on.

    After each, all are waited for before the next one is stopped. If one does not become ready again, the rest is left
    as it is. Where members run on machines of their own, docs/guides/nodes.md has the same steps by hand.
    """
    import anyio

    from veritydb.cluster.watching import Watch

    members = _chosen(folder, None)
    group = group_in(folder)
    for one in members:
        if one.pid() is None:
            raise ConfigurationError(
                f"member {one.member} was not started by veritydb cluster start; nothing was restarted"
            )

    async def restart() -> None:
        left = {one.member: one for one in members}
        async with Watch(group) as watch:
            try:
                seen = await watch.until_ready(None, 0.0)
            except OperationalError as error:
                raise OperationalError(f"{error}; nothing was restarted") from None
            while left:
                # Who is primary may change meanwhile; the last one left may have to hand over after all.
                turn = left.pop(min(left, key=lambda number: (number == seen.primary, number)))
                began = time.monotonic()
                role = "primary" if turn.member == seen.primary else "backup"
                turn.stop(timeout)
                turn.start()
                seen = await watch.until_ready(None, timeout, _alive([turn]))
                typer.echo(f"member {turn.member}: restarted as {role}, ready after {time.monotonic() - began:.1f} s")

    anyio.run(restart)


def _chosen(folder: Path, numbers: list[int] | None) -> list[LocalMember]:
    from veritydb.cluster.local import members_in

    members = members_in(folder)
    for number in numbers or ():
        if number not in {one.member for one in members}:
            raise ConfigurationError(f"{folder} has no folder of member {number}")
    return [one for one in members if not numbers or one.member in numbers]


def _alive(members: list[LocalMember]) -> Callable[[], None]:
    """Return what raises if one of these has ended: waiting would be for nothing."""

    def check() -> None:
        for one in members:
            if one.pid() is None:
                raise OperationalError(f"member {one.member} has ended: {one.last_words() or f'see {one.log}'}")

    return check
