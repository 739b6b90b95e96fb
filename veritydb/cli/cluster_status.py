"""``veritydb cluster status``: a group at a glance, as a table that lives, or once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.console import Group as RichGroup
from rich.live import Live
from rich.table import Table
from rich.text import Text

from veritydb.cli.exits import Exit
from veritydb.cli.output import printable, size_text, write_json
from veritydb.errors import ConfigurationError

if TYPE_CHECKING:
    from veritydb.cluster.overview import MemberView, Overview
    from veritydb.cluster.session import Group

_COLOURS = {"primary": "bold green", "backup": "green", "not a member": "dim"}
_HEALTH = {"good": "bold green", "degraded": "bold yellow", "down": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=(
            "veritydb cluster status cluster                 a table that lives, until Control-C\n\n"
            "veritydb cluster status client --json           from another machine, with a client's folder"
        )
    )(status)


def status(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="A cluster's folder, a client's folder, or a client.toml.", show_default=False
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="Show it once and exit.")] = False,
    interval: Annotated[float, typer.Option("--interval", metavar="SECONDS", help="How often to look.", min=0.1)] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs, once.")] = False,
) -> None:
    """Show how a cluster is: view, primary, and for each member commit, lag, disk, clients, and what is wrong with it.

    Members are asked where clients are, so nothing else has to be open. Where nobody looks at a terminal, it is shown
    once. Exit code 0: every member is ready; 1: the group commits, and not every member is ready; 7: it cannot commit.
    """
    import anyio

    from veritydb.cluster.overview import Health
    from veritydb.cluster.watching import Watch

    group = group_in(folder)
    console = Console(highlight=False)

    async def look_once() -> Overview:
        async with Watch(group) as watch:
            return await watch.look()

    async def look_on() -> None:
        async with Watch(group) as watch:
            with Live(_shown(await watch.look(), group), console=console, auto_refresh=False) as live:
                while True:
                    await anyio.sleep(interval)
                    live.update(_shown(await watch.look(), group), refresh=True)

    if not once and not json and sys.stdout.isatty():
        anyio.run(look_on)
    seen = anyio.run(look_once)
    if json:
        write_json(seen.document())
    else:
        console.print(_shown(seen, group))
    raise typer.Exit({Health.GOOD: Exit.OK, Health.DEGRADED: Exit.PROBLEM, Health.DOWN: Exit.UNAVAILABLE}[seen.health])


def group_in(folder: Path) -> Group:
    """Return how a group is reached, by a client's folder or the whole cluster's. Raises ConfigurationError."""
    from veritydb.cluster.clients import group_of
    from veritydb.cluster.config import CLIENT_FILE, read_client_config

    for place in (folder, folder / "admin", folder / "client"):
        if place.is_file() or (place / CLIENT_FILE).is_file():
            return group_of(read_client_config(place))
    raise ConfigurationError(f"{folder} holds neither a cluster nor a {CLIENT_FILE}")


def _shown(seen: Overview, group: Group) -> RichGroup:
    """Show a table, and below it what is wrong: a sentence needs more room than a column has."""
    wrong = [Text.assemble((f"member {one.member}: ", "bold"), printable(one.why)) for one in seen.members if one.why]
    return RichGroup(_table(seen, group), *wrong)


def _table(seen: Overview, group: Group) -> Table:
    health = seen.health.value
    primary = f"member {seen.primary}" if seen.primary is not None else "none"
    title = Text.assemble(
        ("cluster ", "dim"), seen.cluster[:8], ("  health ", "dim"), (health, _HEALTH[health]),
        ("  view ", "dim"), str(seen.view), ("  primary ", "dim"), primary, ("  commit ", "dim"), f"{seen.commit:,}",
    )  # fmt: skip
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("member", "address", "role", "view", "commit", "lag", "disk free", "clients", "up"):
        right = name in ("view", "commit", "lag", "disk free", "clients")
        # It fits into 80 columns; with longer addresses those go into a second line, and nothing is cut off.
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "address", overflow="fold")
    for one in seen.members:
        address = group.members.get(one.member)
        told = one.document
        table.add_row(
            str(one.member),
            str(address) if address is not None else "?",
            Text("no answer" if told is None else one.role, style=_COLOURS.get(one.role, "bold red")),
            *_numbers(seen, one),
        )
    return table


def _numbers(seen: Overview, one: MemberView) -> list[str]:
    told = one.document
    if told is None:
        return ["", "", "", "", "", ""]
    return [
        f"{told.get('view', '?')}",
        f"{told.get('commit', 0):,}",
        f"{seen.lag(one):,}",
        size_text(int(told.get("disk_free") or 0)) if told.get("disk_size") else "?",
        f"{told.get('clients', '?')}",
        _duration(float(told.get("uptime") or 0)),
    ]


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
