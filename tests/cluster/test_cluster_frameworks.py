"""SQLAlchemy and Django over a cluster: two machines, one stream; and the example of things of which there is one."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.cluster.machines import KEY
from veritydb import ConflictError, follower


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patients"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@contextlib.contextmanager
def engine(machines, machine, **options):
    query = {"cluster": str(machines.cluster), "stream": machines.stream, "timeout": "30", **options}
    url = sa.URL.create("veritydb", database=str(machines.file(machine)), query=query)
    made = sa.create_engine(url, connect_args={"key": KEY})
    yield made
    made.dispose()


def test_sqlalchemy_writes_on_one_machine_and_reads_on_another(machines):
    with engine(machines, "a") as a, engine(machines, "b", consistency="synchronized") as b:
        Base.metadata.create_all(a)
        with Session(a) as session, session.begin():
            session.add_all([Patient(name=f"patient {number}") for number in range(50)])
        with Session(b) as session:
            assert session.scalar(sa.select(sa.func.count()).select_from(Patient)) == 50
            patient = session.get(Patient, 7)
            patient.name = "Jane Smith"
            session.commit()
        with a.connect() as connection:
            connection.connection.dbapi_connection.read_after(_token(b))
            assert connection.scalar(sa.text("SELECT name FROM patients WHERE id = 7")) == "Jane Smith"
            assert sa.inspect(a).get_table_names() == ["patients"]


def _token(engine_of):
    with engine_of.connect() as connection:
        token: str = connection.connection.dbapi_connection.token
        return token


def test_sqlalchemy_sees_a_conflict_as_an_operational_error(machines):
    with engine(machines, "a") as a, engine(machines, "b", consistency="synchronized") as b:
        Base.metadata.create_all(a)
        with Session(a) as session, session.begin():
            session.add(Patient(id=1, name="x"))
        with Session(b) as late:
            late.get(Patient, 1).name = "late"
            late.flush()
            with Session(a) as session, session.begin():
                session.get(Patient, 1).name = "first"
            with pytest.raises(OperationalError) as failed:
                late.commit()
            assert isinstance(failed.value.orig, ConflictError)
            late.rollback()
            late.get(Patient, 1).name = "again"
            late.commit()
        with Session(b) as session:
            assert session.get(Patient, 1).name == "again"


@pytest.mark.parametrize(("option", "message"), [({"consistency": "strong"}, "consistency"), ({"stream": "x"}, None)])
def test_sqlalchemy_names_an_option_that_cannot_be(machines, option, message):
    if message is None:
        with engine(machines, "a", **option) as a:
            assert a.url.query["stream"] == "x"
        return
    with pytest.raises(sa.exc.ArgumentError, match=message), engine(machines, "a", **option) as a:
        a.connect()


DJANGO = """
import sys
import django
from django.conf import settings
path, cluster, stream, what = sys.argv[1:]
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    DATABASES={"default": {"ENGINE": "veritydb.django", "NAME": path, "OPTIONS": {
        "key": "correct horse", "cluster": cluster, "stream": stream, "timeout": 30, "consistency": "synchronized"}}},
    USE_TZ=True,
)
django.setup()
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection, transaction
if what == "write":
    call_command("migrate", verbosity=0)
    with transaction.atomic():
        ward = Group.objects.create(name="ward")
        with transaction.atomic():
            for number in range(10):
                User.objects.create(username=f"user {number}").groups.add(ward)
    User.objects.bulk_create(User(username=f"more {number}") for number in range(500))
    User.objects.filter(username__startswith="more").update(first_name="m")
else:
    assert User.objects.count() == 510, User.objects.count()
    assert User.objects.filter(groups__name="ward").count() == 10
    assert User.objects.filter(first_name="m").count() == 500
    User.objects.filter(username="more 1").delete()
    assert "auth_user" in connection.introspection.table_names()
connection.close()
"""


def test_django_migrates_on_one_machine_and_works_on_another(machines):
    for machine, what in (("a", "write"), ("b", "read")):
        done = subprocess.run(
            [sys.executable, "-c", DJANGO, str(machines.file(machine)), str(machines.cluster), machines.stream, what],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_of_three_applications_one_wins(nodes):
    path = Path(__file__).parents[2] / "examples" / "cluster" / "only_one_wins.py"
    spec = importlib.util.spec_from_file_location("only_one_wins", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    winners = example.main(str(nodes.folder / "client"), f"ward {os.urandom(4).hex()}")
    assert [len(who) for who in winners.values()] == [1, 1, 1]
    follower.stop_all()


def test_the_guide_is_true(nodes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ward").symlink_to(nodes.folder)
    for machine in "ab":
        (tmp_path / machine).mkdir()
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "cluster.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", guide, flags=re.MULTILINE | re.DOTALL)
    preludes = {
        2: 'db.executescript("CREATE TABLE beds (free); CREATE TABLE patients (name); INSERT INTO beds VALUES (1)")',
        3: "app = print",
    }
    said: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(preludes.get(number, "") + "\n" + block, said)
    assert number == 3
    db, other = said["db"], said["other"]
    assert said["done"] == 1
    assert said["beds"] == (1,)
    other.read_after(db.token)
    assert other.execute("SELECT text, signed_by FROM notes").fetchall() == [("seen at 8:00", "dr.lee")]
    db.close()
    other.close()
    follower.stop_all()
