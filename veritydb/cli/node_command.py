"""``veritydb node``: one member of a group, as a process."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Annotated

import typer

from veritydb.errors import OperationalError

app = typer.Typer(help="One member of a group of nodes.", no_args_is_help=True)

Config = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="node.toml of this member.", dir_okay=False, show_default=False)
]


@app.command()
def run(config: Config, verbose: Annotated[bool, typer.Option("--verbose", help="Tell more.")] = False) -> None:
    """Run a node until SIGTERM or Control-C.

    [dim]veritydb node run --config cluster/node-1/node.toml[/dim]

    Exit code 0 after a signal, 1 if the node cannot start or has halted: the line on the error stream says why.
    """
    # Here, so that the other commands do not wait for what only this one needs.
    import anyio

    from veritydb.cluster.config import read_config
    from veritydb.cluster.disk import DiskFailed
    from veritydb.cluster.node import Node
    from veritydb.vsr.replica import CannotStart
    from veritydb.vsr.superblock import SuperblockDamaged

    # A peer that hangs up is an error on one connection here, and no reason to end as a filter in a pipe does.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    told = read_config(config)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.DEBUG if verbose else logging.INFO
    )
    try:
        anyio.run(Node(told).run)
    except (DiskFailed, SuperblockDamaged, CannotStart) as error:
        raise OperationalError(f"node {told.member} cannot run: {error}") from error
