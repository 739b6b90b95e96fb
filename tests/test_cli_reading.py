"""``veritydb info``, ``log``, ``verify``, ``replay`` and ``keys``, as processes."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
import sqlcipher3

import veritydb as package
from tests.support.cli import KEY, command, veritydb


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encrypted database of five transactions; tests work on copies."""
    folder = tmp_path_factory.mktemp("made")
    db = package.connect(folder / "clinic.db", key=KEY, actor="dr.lee")
    db.execute("CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT, weight REAL)")
    with db:
        db.executemany(
            "INSERT INTO patients (name, weight) VALUES (?, ?)", [(f"patient {n}", n / 2) for n in range(100)]
        )
    db.actor = "nurse\x1b[31m"
    with db:
        db.execute("UPDATE patients SET name = 'Jane' WHERE id = 17")
        db.execute("INSERT INTO patients (name, weight) VALUES (x'00ff', 9e999)")
    with db:
        db.execute("DELETE FROM patients WHERE id IN (3, 4)")
    db.execute("PRAGMA user_version = 5")
    db.close()
    return folder


@pytest.fixture
def clinic(made: Path, tmp_path: Path) -> Path:
    """The database, to do with as one likes."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "clinic.db"


def flip(log: Path, *, back: int = 0, at: int | None = None) -> int:
    """Change one byte of the first segment: ``back`` bytes before the last that is not zero, or ``at``."""
    segment = log / "00000000.seg"
    data = bytearray(segment.read_bytes())
    position = len(data.rstrip(b"\0")) - 1 - back if at is None else at
    data[position] ^= 1
    segment.write_bytes(data)
    return position


# info


def test_info_says_what_a_database_is(clinic: Path) -> None:
    """With the key, file and log are described."""
    facts = command("info", clinic, "--json", key=KEY).json
    assert facts["encrypted"] is True
    assert (facts["transactions"], facts["applied"], facts["pending"], facts["last_offset"]) == (5, 5, 0, 4)
    assert facts["log_bytes"] == (Path(facts["log"]) / "00000000.seg").stat().st_size
    assert facts["torn"] is None


def test_info_says_when_the_file_is_ahead_of_its_log(clinic: Path) -> None:
    """That is no number of transactions to be applied."""
    flip(Path(f"{clinic}-log"), back=8)
    assert "5, 1 more than the log: the log was damaged, cut or replaced" in command("info", clinic, key=KEY).out


def test_info_needs_no_key_for_what_the_log_says_in_clear(clinic: Path) -> None:
    """Stream, transactions and head are known without the key; what the file says is not."""
    with_key, without = command("info", clinic, "--json", key=KEY).json, command("info", clinic, "--json").json
    assert without["applied"] is None
    assert {name: without[name] for name in ("stream", "head_hash", "transactions")} == {
        name: with_key[name] for name in ("stream", "head_hash", "transactions")
    }


def test_info_for_people_has_no_colours_in_a_pipe(clinic: Path) -> None:
    """What goes into a pipe is text, a fact a line, without spaces at the end."""
    ran = veritydb("info", clinic, key=KEY)
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert "encrypted" in ran.out
    assert all(line == line.rstrip() for line in ran.out.splitlines())


# log


def test_log_tells_who_did_what(clinic: Path) -> None:
    """A line a transaction, oldest first."""
    ran = veritydb("log", clinic, key=KEY)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3", "4"]
    assert "CREATE TABLE patients" in lines[0]
    assert "dr.lee" in lines[1]
    assert "+100 patients" in lines[1]
    assert "~1 patients" in lines[2]
    assert "-2 patients" in lines[3]
    assert "user_version = 5" in lines[4]


def test_log_spells_out_what_a_terminal_would_obey(clinic: Path) -> None:
    """An actor's name with an escape sequence does not reach the terminal as one."""
    ran = command("log", clinic, key=KEY)
    assert "\x1b[31m" not in ran.out
    assert r"nurse\x1b[31m" in ran.out


def test_log_as_json_is_an_object_a_line(clinic: Path) -> None:
    """Programs get counts a table and the schema statements."""
    lines = veritydb("log", clinic, "--json", key=KEY).lines
    assert [line["offset"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[0]["schema"][0].startswith("CREATE TABLE patients")
    assert lines[1]["rows"] == {"patients": {"insert": 100}}
    assert lines[2]["actor"] == "nurse\x1b[31m"
    assert lines[2]["rows"] == {"patients": {"update": 1, "insert": 1}}
    assert len(lines[3]["id"]) == 32


def test_log_shows_the_values_before_and_after(clinic: Path) -> None:
    """Every storage class has one form in JSON, and odd numbers are no excuse for invalid JSON."""
    (line,) = command("log", clinic, "--json", "--changes", "--from", 2, "--until", "2999-01-01", key=KEY).lines[:1]
    assert line["changes"] == [
        {
            "op": "update",
            "table": "patients",
            "rowid": 17,
            "before": [17, "patient 16", 8.0],
            "after": [17, "Jane", 8.0],
        },
        {"op": "insert", "table": "patients", "rowid": 101, "after": [101, {"blob": "00ff"}, {"real": "inf"}]},
    ]


def test_log_gives_the_history_of_one_row(clinic: Path) -> None:
    """Of a transaction with a hundred rows, only the one that was asked for."""
    ran = command("log", clinic, "--table", "PATIENTS", "--row", 17, "--changes", key=KEY)
    assert [line.strip() for line in ran.out.splitlines() if line.startswith(" " * 10)] == [
        "+ patients 17: 17, 'patient 16', 8.0",
        "~ patients 17: #2 'patient 16' -> 'Jane'",
    ]


@pytest.mark.parametrize(
    ("options", "offsets"),
    [
        (["--last", "2"], [3, 4]),
        (["--from", "3"], [3, 4]),
        (["--actor", "dr.lee"], [0, 1]),
        (["--actor", "dr.lee", "--last", "1"], [1]),
        (["--table", "patients", "--last", "2"], [2, 3]),
        (["--table", "nothing"], []),
        (["--since", "2999-01-01"], []),
        (["--until", "2001-01-01T00:00:00+02:00"], []),
    ],
)
def test_log_selects(clinic: Path, options: list[str], offsets: list[int]) -> None:
    """By offset, number, actor, table and time."""
    ran = command("log", clinic, "--json", *options, key=KEY)
    assert ran.code == 0, ran.err
    assert [line["offset"] for line in ran.lines] == offsets


def test_log_of_a_folder_needs_no_file(clinic: Path) -> None:
    """The log alone is enough."""
    clinic.unlink()
    assert len(command("log", f"{clinic}-log", "--json", key=KEY).lines) == 5


def test_log_refuses_what_cannot_be_meant(clinic: Path) -> None:
    """A row without a table and a time that is none are errors of usage."""
    assert command("log", clinic, "--row", 1, key=KEY).code == 2
    ran = command("log", clinic, "--since", "yesterday", key=KEY)
    assert ran.code == 2
    assert "yesterday" in ran.err


# verify


def test_verify_finds_a_good_database_good(clinic: Path) -> None:
    """The chain is whole, the file is what its log makes of it, and nothing is left lying about."""
    before = sorted(path.name for path in clinic.parent.iterdir())
    ran = veritydb("verify", clinic, "--json", key=KEY)
    assert ran.code == 0, ran.out + ran.err
    assert ran.json["ok"] is True
    assert ran.json["chain"]["transactions"] == ran.json["file"]["transactions"] == 5
    assert sorted(path.name for path in clinic.parent.iterdir()) == before
    assert "good: the chain is whole" in veritydb("verify", clinic, key=KEY).out


def test_the_chain_is_checked_without_a_key(clinic: Path) -> None:
    """Who has no key can still tell that nothing was changed."""
    ran = veritydb("verify", clinic, "--chain-only", "--json")
    assert ran.code == 0
    assert ran.json["file"] is None


def test_verify_names_the_place_of_damage(clinic: Path) -> None:
    """One flipped bit in the first transaction: exit code 4, segment, byte and offset."""
    flip(Path(f"{clinic}-log"), at=1_200)
    ran = command("verify", clinic, "--chain-only", "--json")
    assert ran.code == 4
    damage = ran.json["chain"]["damage"]
    assert damage["segment"] == "00000000.seg"
    assert 0 < damage["position"] <= 1_200
    assert damage["offset"] is not None
    assert command("verify", clinic, key=KEY).code == 4


def test_verify_finds_a_row_that_was_changed_behind_its_back(clinic: Path) -> None:
    """Somebody with the key writes through another program: exit code 1, and the row is shown."""
    key = command("keys", "export", clinic, key=KEY).out.strip()
    other = sqlcipher3.connect(clinic)
    other.execute(f'PRAGMA key = "{key}"')
    other.execute("UPDATE patients SET name = 'nobody' WHERE id = 50")
    other.commit()
    other.close()
    ran = command("verify", clinic, "--json", key=KEY)
    assert ran.code == 1
    assert ran.json["chain"]["damage"] is None
    assert "nobody" in ran.json["problems"][0]
    assert "patients" in ran.json["problems"][0]


def test_verify_finds_a_log_that_was_replaced_as_a_whole(clinic: Path, tmp_path: Path) -> None:
    """A head hash that was noted down tells a whole chain from the right one."""
    noted = command("info", clinic, "--json").json["head_hash"]
    assert command("verify", clinic, "--chain-only", "--expect", noted).code == 0
    other = tmp_path / "other.db"
    db = package.connect(other)
    db.execute("CREATE TABLE t(a)")
    db.close()
    ran = command("verify", other, "--chain-only", "--expect", noted)
    assert ran.code == 1
    assert noted in ran.out
    assert command("verify", other, "--expect", "no hash").code == 2


def test_verify_finds_a_file_of_another_log(clinic: Path, tmp_path: Path) -> None:
    """Two databases with their files exchanged."""
    other = tmp_path / "other.db"
    for path in (clinic.with_name("plain.db"), other):
        db = package.connect(path)
        db.execute("CREATE TABLE t(a)")
        db.close()
    shutil.copy(clinic.with_name("plain.db"), other)
    ran = command("verify", other, "--json")
    assert ran.code == 1
    assert "stream" in ran.json["problems"][0]


def test_verify_says_that_the_file_is_missing(clinic: Path) -> None:
    """The log is good, and there is no file: a problem, not a crash."""
    clinic.unlink()
    ran = command("verify", clinic, "--json", key=KEY)
    assert ran.code == 1
    assert "the next open makes it again" in ran.json["problems"][0]


# replay


def test_replay_makes_the_database_as_it_was(clinic: Path, tmp_path: Path) -> None:
    """Up to an offset; encrypted like the original; and never over a file that is there."""
    target = tmp_path / "then.db"
    ran = veritydb("replay", clinic, target, "--at", 1, "--json", key=KEY)
    assert ran.code == 0, ran.err
    assert (ran.json["transactions"], ran.json["offset"]) == (2, 1)
    assert b"patient" not in target.read_bytes()
    again = veritydb("replay", clinic, target, key=KEY)
    assert again.code == 2
    assert "exists" in again.err


def test_replay_says_that_a_time_is_none(clinic: Path, tmp_path: Path) -> None:
    """An error of usage that names what was given."""
    ran = command("replay", clinic, tmp_path / "then.db", "--at", "noon", key=KEY)
    assert ran.code == 2
    assert "noon" in ran.err
    assert "Traceback" not in ran.err


# keys


def test_exported_key_opens_the_file_in_sqlcipher(clinic: Path) -> None:
    """What is written, and only that, is what PRAGMA key takes."""
    text = veritydb("keys", "export", clinic, key=KEY).out
    assert text.startswith("x'")
    assert text.endswith("'\n")
    db = sqlcipher3.connect(clinic)
    db.execute(f'PRAGMA key = "{text.strip()}"')
    assert db.execute("SELECT count(*) FROM patients").fetchone() == (99,)
    db.close()


def test_keys_check_says_whether_the_key_opens(clinic: Path) -> None:
    """By the exit code."""
    assert command("keys", "check", clinic, key=KEY).code == 0
    assert command("keys", "check", clinic, key="wrong").code == 3


def test_a_generated_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    """And it works, and is not written over."""
    file = tmp_path / "clinic.key"
    assert command("keys", "generate", file).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert command("keys", "generate", file).code == 2
    assert command("keys", "generate", tmp_path / "other.key", "--json").json == {"made": str(tmp_path / "other.key")}
    plain = tmp_path / "plain.db"
    with sqlite3.connect(plain) as db:
        db.execute("CREATE TABLE t(a)")
    db.close()
    assert command("adopt", plain, "--key-file", file).code == 0
    assert command("verify", plain, "--key-file", file).code == 0
