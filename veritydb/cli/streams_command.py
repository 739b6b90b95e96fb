"""``veritydb streams``: the streams of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from veritydb.cli.options import Json
from veritydb.cli.output import printable, time_text, write_fields, write_json
from veritydb.errors import ConfigurationError

if TYPE_CHECKING:
    from veritydb.cluster.directory import Directory, Entry

app = typer.Typer(help="The streams of a cluster.", no_args_is_help=True)

Cluster = Annotated[
    Path,
    typer.Option(
        "--cluster",
        metavar="FOLDER",
        envvar="VERITYDB_CLUSTER",
        help="The client's folder, or its client.toml.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the stream.", show_default=False)]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for the cluster.")]


class DataClassName(StrEnum):
    """What kind of data a stream holds."""

    phi = "phi"
    non_phi = "non-phi"
    deidentified = "deidentified"


@app.command("list", epilog="veritydb streams list --cluster cluster/admin")
def list_(
    cluster: Cluster,
    everything: Annotated[bool, typer.Option("--all", help="Those that were dropped as well.")] = False,
    timeout: Timeout = 10.0,
    json: Json = False,
) -> None:
    """List the streams, with where each may be kept and how many transactions it has."""
    with _opened(cluster, timeout) as directory:
        entries = [entry for entry in directory if everything or not entry.info.dropped]
    if json:
        write_json({"streams": [_facts(entry) for entry in entries]})
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("name", "transactions", "class", "region", "created", ""):
        table.add_column(title, justify="right" if title == "transactions" else "left", overflow="fold")
    for entry in entries:
        facts = _facts(entry)
        table.add_row(
            printable(entry.name or str(facts["id"])),
            f"{entry.info.next_offset:,}",
            str(facts["class"]),
            entry.info.placement.region or "anywhere",
            str(facts["created"])[:10],
            f"dropped {str(facts['dropped'])[:10]}" if facts["dropped"] else "",
        )
    Console(highlight=False).print(table if table.row_count else "There are none.")


@app.command(epilog="veritydb streams create --cluster cluster/client clinic --class phi --region eu-central-1")
def create(
    cluster: Cluster,
    name: Name,
    data_class: Annotated[
        DataClassName, typer.Option("--class", help="phi: about people who can be recognised; it must name its region.")
    ],
    region: Annotated[str, typer.Option(help="Where its data must stay. [default: anywhere]", show_default=False)] = "",
    timeout: Timeout = 10.0,
    json: Json = False,
) -> None:
    """Make a stream. Making it again, alike, changes nothing."""
    from veritydb.kernel import DataClass, Placement

    placement = Placement(DataClass[data_class.name.upper()], region)
    with _opened(cluster, timeout) as directory:
        created = directory.create(name, placement)
    facts = {"name": name, "id": created.stream.hex(), "class": data_class.value, "region": region or None}
    if json:
        write_json(facts | {"existed": created.existed})
        return
    write_fields({"stream": f"{name}{' (it was there)' if created.existed else ''}"} | facts | {"name": None})


@app.command(epilog="veritydb streams drop --cluster cluster/admin trial --yes")
def drop(
    cluster: Cluster,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    timeout: Timeout = 10.0,
    json: Json = False,
) -> None:
    """End a stream for ever: nothing is appended any more, and the nodes set its records aside.

    Nothing is deleted: each node moves the records to data/dropped. The name is not used again.
    """
    with _opened(cluster, timeout) as directory:
        entry = directory.find(name)
        if entry is not None and not yes and not entry.info.dropped:
            count = f"{entry.info.next_offset:,} transactions"
            typer.confirm(f"End the stream {name} with its {count}, for ever?", abort=True, err=True)
        dropped = directory.drop(name)
    if json:
        write_json({"name": name, "id": dropped.stream.hex(), "transactions": dropped.next_offset})
        return
    typer.echo(
        f"{name} has ended with {dropped.next_offset:,} transactions; its records are in the nodes' data/dropped"
    )


def _facts(entry: Entry) -> dict[str, object]:
    info = entry.info
    return {
        "name": entry.name,
        "id": info.stream.hex(),
        "class": info.placement.data_class.name.lower().replace("_", "-"),
        "region": info.placement.region or None,
        "transactions": info.next_offset,
        "hash": info.hash.hex() if info.next_offset else None,
        "created": time_text(info.created),
        "dropped": time_text(info.dropped) if info.dropped else None,
    }


@contextlib.contextmanager
def _opened(cluster: Path, timeout: float) -> Generator[Directory]:
    from veritydb.cluster.config import read_client_config
    from veritydb.cluster.directory import Directory

    if not cluster.exists():
        raise ConfigurationError(f"there is no client's folder {cluster}; veritydb cluster init makes one")
    directory = Directory.of(read_client_config(cluster), timeout=timeout)
    with contextlib.closing(directory):
        yield directory
