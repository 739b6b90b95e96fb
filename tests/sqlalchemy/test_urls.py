"""What a VerityDB URL may say; what it may not is an error that names the option; a key in it is never shown."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import create_async_engine

import veritydb
from veritydb.sqlalchemy.urls import connect_arguments, masked

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.life import Life

SECRET = "correct-horse"


@pytest.mark.parametrize(
    ("url", "database", "options"),
    [
        ("veritydb://", ":memory:", {}),
        ("veritydb:///:memory:", ":memory:", {}),
        ("veritydb:////var/clinic.db", "/var/clinic.db", {}),
        ("sqlite+veritydb:////var/clinic.db?timeout=2.5", "/var/clinic.db", {"timeout": 2.5}),
        ("veritydb:////c.db?actor=dr.lee&on_missing=new", "/c.db", {"actor": "dr.lee", "on_missing": "new"}),
        ("veritydb://dr.lee@//c.db", "/c.db", {"actor": "dr.lee"}),
        ("veritydb://dr.lee:k@//c.db", "/c.db", {"actor": "dr.lee", "key": "k"}),
        ("veritydb://:k@//c.db", "/c.db", {"key": "k"}),
        ("veritydb:////c.db?key=k", "/c.db", {"key": "k"}),
        ("veritydb:////c.db?isolation_level=IMMEDIATE", "/c.db", {"isolation_level": "IMMEDIATE"}),
        ("veritydb:////c.db?isolation_level=deferred", "/c.db", {"isolation_level": "DEFERRED"}),
        ("veritydb:////c.db?detect_types=3&cached_statements=9", "/c.db", {"detect_types": 3, "cached_statements": 9}),
        ("veritydb:////c.db?check_same_thread=no", "/c.db", {"check_same_thread": False}),
        ("veritydb:///file:c.db?mode=ro&uri=true&cache=private", "file:c.db?cache=private&mode=ro", {"uri": True}),
        ("veritydb:///file:c.db?uri=1", "file:c.db", {"uri": True}),
    ],
)
def test_a_url_says(url: str, database: str, options: dict[str, Any]) -> None:
    assert connect_arguments(make_url(url)) == (database, options)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("veritydb:///c.db?colour=red", "'colour'"),
        ("veritydb:///c.db?timeout=soon", "'timeout' should be a number of seconds, not 'soon'"),
        ("veritydb:///c.db?timeout=nan", "'timeout' should be a number of seconds, not 'nan'"),
        ("veritydb:///c.db?on_missing=maybe", "'on_missing' should be rebuild or new, not 'maybe'"),
        ("veritydb:///c.db?isolation_level=loose", "'isolation_level' should be DEFERRED, IMMEDIATE or EXCLUSIVE"),
        ("veritydb:///c.db?uri=perhaps", "'uri' should be true or false"),
        ("veritydb:///c.db?uri=true&mode=ro", "'mode' needs a database that is a file: URI"),
        ("veritydb:///c.db?cached_statements=many", "'cached_statements' should be a number"),
        ("veritydb:///c.db?mode=ro", "'mode' is one of SQLite's file: URIs; it needs uri=true"),
        ("veritydb:///file:c.db?uri=true&hexkey=00", "'hexkey'"),
        ("veritydb:///c.db?actor=a&actor=b", "'actor' is given 2 times"),
        ("veritydb:///c.db?register=nowhere:nothing", "'register' should be module:function"),
        ("veritydb:///c.db?register=math:pi", "'register' should be module:function"),
        ("veritydb://:k@/c.db?key_env=K", "more than once: key_env, password"),
        ("veritydb:///c.db?key=k&key_file=f", "more than once: key, key_file"),
        ("veritydb://clinic.db", "at the third slash"),
        ("veritydb://localhost:5432/c.db", "names no host"),
    ],
)
def test_what_a_url_may_not_say_is_named(url: str, named: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        connect_arguments(make_url(url))
    assert named in str(caught.value)


def test_an_unknown_option_is_found_when_the_engine_connects_and_no_file_is_made(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="'colour'"):
        create_engine(f"veritydb:///{tmp_path / 'c.db'}?colour=red").connect()
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_value_is_refused_with_the_options_name(tmp_path: Path) -> None:
    engine = create_engine(f"veritydb:///{tmp_path / 'c.db'}", connect_args={"on_missing": "cry"})
    with pytest.raises(Exception, match="on_missing must be one of") as caught:
        engine.connect()
    assert isinstance(getattr(caught.value, "orig", caught.value), veritydb.ConfigurationError)


def _write(url: Any, **options: Any) -> None:
    engine = create_engine(url, **options)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS t (a)"))
        connection.execute(text("INSERT INTO t VALUES (1)"))
    engine.dispose()


def test_the_key_comes_from_a_file_a_variable_the_url_or_connect_args(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, key_file = tmp_path / "c.db", tmp_path / "key"
    key_file.write_text(f"{SECRET}\n")
    key_file.chmod(0o600)
    monkeypatch.setenv("CLINIC_KEY", SECRET)
    _write(f"veritydb:///{path}?key_file={key_file}")
    _write(f"veritydb:///{path}?key_env=CLINIC_KEY")
    _write(f"veritydb:///{path}?key={SECRET}")
    _write(f"veritydb://:{SECRET}@/{path}")
    _write(f"veritydb:///{path}", connect_args={"key": SECRET})
    _write(f"veritydb:///{path}", connect_args={"key": veritydb.EnvKeyProvider("CLINIC_KEY")})
    life.watch(path, key=SECRET)
    with pytest.raises(Exception, match="no key was given"):
        _write(f"veritydb:///{path}")


@pytest.mark.parametrize("make", [create_engine, create_async_engine])
def test_a_key_in_the_url_is_masked_and_still_works(make: Any, tmp_path: Path) -> None:
    scheme = "veritydb" if make is create_engine else "veritydb+aio"
    engine = make(f"{scheme}:///{tmp_path / 'c.db'}?key={SECRET}&actor=a")
    shown = f"{engine!r} {engine.url} {engine.url!r} {engine.pool!r}"
    assert SECRET not in shown
    assert "***" in shown
    database, options = connect_arguments(engine.url)
    assert (database, options) == (str(tmp_path / "c.db"), {"key": SECRET, "actor": "a"})
    assert masked(engine.url) is engine.url


def test_a_key_is_in_no_log_line_and_in_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.db"
    with caplog.at_level(logging.DEBUG):
        _write(f"veritydb:///{path}?key={SECRET}", echo="debug", echo_pool="debug")
        with pytest.raises(Exception, match="does not open") as caught:
            _write(f"veritydb:///{path}?key=another-{SECRET}")
    assert caplog.records
    assert SECRET not in caplog.text
    assert SECRET not in str(caught.value)
