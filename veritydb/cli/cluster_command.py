"""``veritydb cluster``: make a cluster, and run all of it on one machine while developing."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from veritydb.cli import cluster_members, cluster_processes, cluster_status
from veritydb.cli.output import write_json
from veritydb.errors import ConfigurationError, OperationalError

app = typer.Typer(help="Groups of nodes.", no_args_is_help=True)

cluster_status.register(app)
cluster_processes.register(app)
cluster_members.register(app)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the cluster's files are.", show_default=False)]


@app.command(
    epilog=(
        "veritydb cluster init cluster                                    three members on this machine\n\n"
        "veritydb cluster init cluster --address a:7400 --address b:7400 --address c:7400"
    )
)
def init(
    folder: Folder,
    address: Annotated[
        list[str] | None,
        typer.Option(
            "--address", metavar="HOST:PORT", help="Of a member; once for each. [default: three on 127.0.0.1]"
        ),
    ] = None,
    slots: Annotated[int, typer.Option(help="Ops that each member's journal holds.")] = 4096,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False,
) -> None:
    """Make id, secret, certificates and empty disks for a new cluster.

    Each node-N folder is all that member needs: carry it to its machine, keep nothing of it here. authority.key signs
    further members: keep it where no node is.
    """
    from veritydb.cluster.config import SLOTS_MAX, SLOTS_MIN, parse_address
    from veritydb.cluster.founding import found
    from veritydb.vsr.quorums import QUORUMS

    told = address or [f"127.0.0.1:{port}" for port in (7400, 7401, 7402)]
    if len(told) not in QUORUMS:
        raise ConfigurationError(f"a cluster has {min(QUORUMS)} to {max(QUORUMS)} members, not {len(told)}")
    members = {number: parse_address(one) for number, one in enumerate(told, 1)}
    if len(set(members.values())) != len(members):
        raise ConfigurationError("two members have one address")
    if not SLOTS_MIN <= slots <= SLOTS_MAX:
        raise ConfigurationError(f"--slots is a number from {SLOTS_MIN} to {SLOTS_MAX}, not {slots}")
    paths = found(folder, members, slots=slots)
    if json:
        write_json({"nodes": [str(path) for path in paths], "client": str(folder / "client")})
        return
    for path in paths:
        typer.echo(f"veritydb node run --config {path}")
    typer.echo(f"or all of them here: veritydb cluster start {folder}")


Names = Annotated[list[str] | None, typer.Option(metavar="STREAM", help="A stream, or *; once for each.")]


@app.command(
    epilog=(
        "veritydb cluster client cluster clinic --append clinic\n\n"
        "veritydb cluster client cluster reports --read clinic --read billing"
    )
)
def client(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the client.", show_default=False)],
    read: Names = None,
    append: Names = None,
    create: Names = None,
    administer: Annotated[bool, typer.Option("--administer", help="It may do everything.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False,
) -> None:
    """Make a client's folder, FOLDER/client-NAME, and give it rights. Who may append may read.

    The rights are added to each node-N/rights.toml that is in FOLDER; kill -HUP makes a running node read them again.
    """
    from veritydb.cluster.founding import add_client
    from veritydb.cluster.rights import Right

    rights = {Right.READ: read or [], Right.APPEND: append or [], Right.CREATE: create or []}
    if not administer and not any(rights.values()):
        raise ConfigurationError("a client without rights may do nothing: --read, --append, --create or --administer")
    home, changed, section = add_client(folder, name, rights, administer=administer)
    if json:
        write_json({"client": str(home), "rights": [str(path) for path in changed], "section": section})
        return
    typer.echo(f"{home}: carry it to where {name} runs")
    for path in changed:
        typer.echo(f"{path}: [{name}] added; kill -HUP its node")
    if not changed:
        typer.echo(f"add this to each node's rights.toml, then kill -HUP the node:\n\n{section}")


@app.command(epilog="veritydb cluster run cluster")
def run(folder: Folder) -> None:
    """Run all members on this machine until Control-C: for development, not for data that must outlive it."""
    from veritydb.cluster.local import members_in

    members = members_in(folder)
    nodes: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, _leave)
    try:
        for member in members:
            node = member.run()
            if node is None:
                raise OperationalError(f"member {member.member} runs already; veritydb cluster stop {folder} ends it")
            nodes.append(node)
        while all(node.poll() is None for node in nodes):
            time.sleep(0.2)
        raise OperationalError("a node has ended; the others are stopped")
    except KeyboardInterrupt:
        pass
    finally:
        for node in nodes:
            with contextlib.suppress(ProcessLookupError):
                node.terminate()
        for node in nodes:
            node.wait()


def _leave(number: int, frame: object) -> None:
    sys.exit(0)
