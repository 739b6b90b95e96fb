"""``veritydb node``: one member of a group, as a process."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from veritydb.cli.exits import Exit
from veritydb.errors import ConfigurationError, Error, OperationalError

app = typer.Typer(help="One member of a group of nodes.", no_args_is_help=True)

Text = str | None


def _flag(name: str, metavar: str, what: str) -> Any:
    return typer.Option(
        f"--{name}", metavar=metavar, help=what, envvar=f"VERITYDB_NODE_{name.upper().replace('-', '_')}",
        show_default=False, show_envvar=False,
    )  # fmt: skip


@app.command(
    epilog=(
        "veritydb node run --config cluster/node-1/node.toml\n\n"
        "veritydb node run --config node.toml --log-format json --metrics 127.0.0.1:7410"
    )
)
def run(
    context: typer.Context,
    config: Annotated[Path | None, _flag("config", "FILE", "node.toml of this member.")] = None,
    cluster: Annotated[Text, _flag("cluster", "HEX", "The cluster's id.")] = None,
    member: Annotated[Text, _flag("member", "NUMBER", "Which member this is.")] = None,
    members: Annotated[Text, _flag("members", "1=HOST:PORT,…", "All members and their addresses.")] = None,
    listen: Annotated[Text, _flag("listen", "HOST:PORT", "Where to listen, if not at the member's address.")] = None,
    data: Annotated[Text, _flag("data", "FOLDER", "Where this member's data is.")] = None,
    secret_file: Annotated[Text, _flag("secret-file", "FILE", "The cluster's secret.")] = None,
    authority: Annotated[Text, _flag("authority", "FILE", "PEM: who signs members and clients.")] = None,
    certificate: Annotated[Text, _flag("certificate", "FILE", "PEM: this member's certificate.")] = None,
    key: Annotated[Text, _flag("key", "FILE", "PEM: its private key.")] = None,
    rights_file: Annotated[Text, _flag("rights-file", "FILE", "Who may do what.")] = None,
    slots: Annotated[Text, _flag("slots", "NUMBER", "Ops that the journal holds.")] = None,
    metrics: Annotated[Text, _flag("metrics", "HOST:PORT", "Serve health and metrics over HTTP there.")] = None,
    log_format: Annotated[Text, _flag("log-format", "text|json", "How the log is written.")] = None,
    log_level: Annotated[Text, _flag("log-level", "LEVEL", "debug, info, warning, or error.")] = None,
    clock_limit: Annotated[Text, _flag("clock-limit", "SECONDS", "How far clocks may be apart.")] = None,
    disk_reserve: Annotated[Text, _flag("disk-reserve", "MIB", "Below that much free space, say so.")] = None,
) -> None:
    """Run a node until SIGTERM or Control-C.

    Each setting may be in node.toml, in a variable (VERITYDB_NODE_LOG_FORMAT=json), or a flag; a flag counts most, the
    file least. docs/reference/node.md tells what each is.

    Exit code 0 after a signal, 1 if the node cannot start or has halted: the last line on the error stream says why.
    """
    # Here, so that the other commands do not wait for what only this one needs.
    from veritydb.cluster.config import SETTINGS, Told, read_config, told_by
    from veritydb.cluster.logs import set_up

    over = told_by(os.environ)
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if name in SETTINGS and value is not None and source is not None and source.name == "COMMANDLINE":
            over[name] = Told(str(value), f"--{name.replace('_', '-')}")
    if config is None and not over:
        raise ConfigurationError("a node needs --config FILE, or all of its settings as flags or variables")
    told = read_config(config, over)
    set_up(told.log_format, told.log_level, member=told.member)
    # A peer that hangs up is an error on one connection here, and no reason to end as a filter in a pipe does.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        _run(told, lambda: read_config(config, over))
    except (Error, OSError) as error:
        if told.log_format != "json":
            raise
        logging.getLogger("veritydb.node").critical("node has ended", extra={"fields": {"why": str(error)}})
        raise typer.Exit(Exit.PROBLEM) from error


def _run(told: Any, reread: Any) -> None:
    import anyio

    from veritydb.cluster.disk import DiskFailed
    from veritydb.cluster.node import Node
    from veritydb.vsr.replica import CannotStart
    from veritydb.vsr.superblock import SuperblockDamaged

    # Where it is installed, as the extra "cluster" does: its TLS and its sockets take half of asyncio's time.
    options = {"use_uvloop": importlib.util.find_spec("uvloop") is not None}
    try:
        anyio.run(lambda: Node(told, reread=reread).run(started=_started), backend_options=options)
    except (DiskFailed, SuperblockDamaged, CannotStart, Error, OSError) as error:
        raise OperationalError(f"node {told.member} cannot run: {error}") from error


def _started() -> None:
    # What was imported and opened stays for as long as the node does: the collector need not go through it again.
    gc.collect()
    gc.freeze()
    _notify("READY=1")


def _notify(message: str) -> None:
    """Tell a service manager, if one has started this, as ``sd_notify`` does."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
