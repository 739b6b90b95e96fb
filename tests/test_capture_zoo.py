"""Every program of the zoo does through VerityDB what it does through SQLite, and its log replays to the same file.

Each runs in several ways: bare, where every statement is a transaction of its own; in one explicit transaction; under
the DB-API's implicit transactions; and with everything first done and undone in a savepoint.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import files
from tests.support.content import content, different
from tests.support.life import RAW
from tests.support.places import in_memory
from tests.support.sides import Ours, Plain, run_both
from tests.support.zoo import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.life import Life
    from tests.support.zoo import Program

_TOGETHER = [program for program in PROGRAMS if not program.alone]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory, for a thousand databases; what makes them durable is not the matter here."""
    with tempfile.TemporaryDirectory(prefix="zoo-", dir=in_memory()) as folder:
        yield Path(folder)


def _run(life: Life, tmp_path: Path, program: Program, way: str, key: bytes | None = None) -> None:
    implicit = way == "implicit"
    connection = life.connect(key=key, isolation_level="" if implicit else None, register=program.register)
    ours, plain = Ours(connection), Plain(str(tmp_path / "plain.db"), implicit="BEGIN" if implicit else None)
    if program.prepare is not None:
        program.prepare(ours)
        program.prepare(plain)
    run_both(ours, plain, program.setup)
    if implicit:
        run_both(ours, plain, ["COMMIT"])
    match way:
        case "bare":
            steps = program.steps
        case "implicit":
            steps = (*program.steps, "COMMIT", "ROLLBACK")
        case "transaction":
            steps = ("BEGIN", *program.steps, "COMMIT", "ROLLBACK")
        case _:
            undone = ("BEGIN", "SAVEPOINT undone", *program.steps, "ROLLBACK TO undone")
            steps = (*undone, *program.steps, "RELEASE undone", "COMMIT", "ROLLBACK")
    run_both(ours, plain, steps)
    life.close()
    path = tmp_path / "life.db"
    with files.opened(path, key, program.register) as db:
        difference = different(content(db), content(plain.db))
    plain.close()
    assert not difference


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_bare_statements_do_what_they_do_in_sqlite(program: Program, life: Life, tmp_path: Path) -> None:
    _run(life, tmp_path, program, "bare")


@pytest.mark.parametrize("program", _TOGETHER, ids=str)
def test_statements_in_a_transaction_do_what_they_do_in_sqlite(program: Program, life: Life, tmp_path: Path) -> None:
    _run(life, tmp_path, program, "transaction")


@pytest.mark.parametrize("program", _TOGETHER, ids=str)
def test_statements_in_implicit_transactions_do_what_they_do_in_sqlite(
    program: Program, life: Life, tmp_path: Path
) -> None:
    _run(life, tmp_path, program, "implicit")


@pytest.mark.parametrize("program", _TOGETHER, ids=str)
def test_statements_undone_and_done_again_do_what_they_do_in_sqlite(
    program: Program, life: Life, tmp_path: Path
) -> None:
    _run(life, tmp_path, program, "undone")


@pytest.mark.parametrize("program", [program for program in PROGRAMS if not program.plain], ids=str)
def test_an_encrypted_database_does_what_a_plain_one_does(program: Program, life: Life, tmp_path: Path) -> None:
    _run(life, tmp_path, program, "bare" if program.alone else "transaction", RAW)
