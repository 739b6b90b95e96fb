"""``veritydb serve``: committed changes, queries and a page over HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from veritydb.cli.asking import key_for
from veritydb.cli.options import Database, KeyFile, Register
from veritydb.cli.output import printable
from veritydb.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "serve",
        epilog=(
            "veritydb serve clinic.db --ui                        a page for you, on this machine\n\n"
            "veritydb serve clinic.db --config server.toml --port 8443 --host 0.0.0.0 "
            "--tls-certificate cert.pem --tls-key key.pem\n\n"
            "curl -N -H 'Authorization: Bearer KEY' 'http://127.0.0.1:8000/events?tables=patients&images=1'"
        ),
    )(serve_command)


def serve_command(
    database: Database,
    key_file: KeyFile = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Who may see what, and limits (TOML). Without it, one key is drawn that shows everything.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any.")] = 8000,
    ui: Annotated[bool, typer.Option("--ui", help="Serve the live page, too.")] = False,
    tls_certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", metavar="FILE", help="PEM, with its chain.", show_default=False)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="PEM, of the certificate.", show_default=False)
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy does TLS: serve in clear on any address.")
    ] = False,
    register: Register = None,
) -> None:
    """Serve committed changes as server-sent events and over a WebSocket, and SELECTs; with --ui a live page.

    The database's key stays in this process. Who asks needs an API key or a token; see docs/guides/sse.md.
    """
    try:
        from veritydb.sse.app import create_app
        from veritydb.sse.serving import Address, serve
        from veritydb.sse.settings import everything, new_key, read_settings
    except ImportError as error:
        raise ConfigurationError(
            f"serving needs more than is installed ({error.name}): pip install 'veritydb[server]'"
        ) from error
    address = Address(
        host=host, port=port, certificate=tls_certificate, certificate_key=tls_key, behind_proxy=behind_proxy
    )
    address.check()
    drawn = None
    if config is not None:
        settings = read_settings(config)
    else:
        drawn = new_key()
        settings = everything(drawn)
    if address.certificate is not None or behind_proxy:
        settings = dataclasses.replace(settings, cookie_secure=True)
    app = create_app(database, key=key_for(database, key_file), settings=settings, ui=ui, register=register)

    def started(url: str) -> None:
        typer.echo(f"veritydb: serving {printable(str(database))} at {url}")
        if drawn is not None:
            typer.echo(f"veritydb: the key of this run is {drawn}")
            if ui:
                typer.echo(f"veritydb: open {url}/#key={drawn}")
        elif ui:
            typer.echo(f"veritydb: open {url}/")

    with contextlib.suppress(KeyboardInterrupt):
        serve(app, address, started=started)
