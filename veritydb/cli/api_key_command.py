"""``veritydb keys api``: draw a key for a program or a person, for the configuration of ``veritydb serve``."""

from __future__ import annotations

import typer

from veritydb.cli.options import Json
from veritydb.cli.output import write_fields, write_json
from veritydb.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("api", epilog="veritydb keys api\n\nveritydb keys api --json | jq -r .sha256")(api_key)


def api_key(json: Json = False) -> None:
    """Draw an API key at random. The key is for whoever asks; its SHA-256 is for the server's configuration."""
    try:
        from veritydb.sse.settings import hash_of, new_key
    except ImportError as error:
        raise ConfigurationError(
            f"serving needs more than is installed ({error.name}): pip install 'veritydb[server]'"
        ) from error
    key = new_key()
    facts = {"key": key, "sha256": hash_of(key)}
    if json:
        write_json(facts)
    else:
        write_fields(facts)
