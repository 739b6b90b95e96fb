"""The command line: ``veritydb info | log | verify | replay | adopt | export | keys``.

=============  =====================================================================================================
``app``        the commands put together, and the one border where errors become messages and exit codes
``exits``      the exit codes, which scripts may rely on
``asking``     where a key comes from: ``--key-file``, ``VERITYDB_KEY``, a prompt; never the command line itself
``output``     tables for people, JSON for programs, progress on the error stream
``options``    the options that several commands share
``info`` ...   a module a command (``log_command`` is ``log``, ``keys_command`` is ``keys``)
=============  =====================================================================================================

Every command is a library function with a face; what it does is documented there and in ``docs/reference/cli.md``.
"""

from __future__ import annotations

from veritydb.cli.app import main

__all__ = ["main"]
