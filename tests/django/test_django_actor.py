"""The log names who made each request, which one it was, and nobody else's name with it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, transaction
from django.test import AsyncClient, Client

from tests.django.conftest import ACTOR
from tests.django.support import written
from tests.django.ward.models import Patient, Ward
from veritydb.django import acting, current
from veritydb.django.middleware import ANONYMOUS

PATIENT, WARD, SESSION = "ward_patient", "ward_ward", "django_session"


@pytest.fixture
def lee(database: Path) -> User:
    """A member of staff who may do everything."""
    return User.objects.create_superuser("lee", password="secret")


@pytest.fixture
def client(lee: User) -> Client:
    """A browser in which lee has logged in."""
    client = Client()
    client.force_login(lee)
    return client


def test_a_request_acts_in_the_name_of_its_user(database: Path, client: Client) -> None:
    with written(database) as said:
        assert client.post("/admit/?secret=1").status_code == 200
    assert said == [("lee", "POST /admit/", {(PATIENT, "insert"): 1})]


def test_a_request_without_a_user_is_anonymous(database: Path) -> None:
    with written(database) as said:
        Client().get("/admit/")
    assert said == [(ANONYMOUS, "GET /admit/", {(PATIENT, "insert"): 1})]


def test_a_view_may_give_a_better_reason(database: Path, client: Client) -> None:
    with written(database) as said:
        client.post("/admit-because/")
    assert [(entry.actor, entry.reason) for entry in said] == [("lee", "emergency")]


def test_a_page_that_only_reads_asks_nobody_who_acts(database: Path, client: Client, queries: list[str]) -> None:
    client.get("/look/")
    assert [sql for sql in queries if "auth_user" in sql] == []


def test_after_a_request_the_connection_is_its_own_again(database: Path, client: Client) -> None:
    with written(database) as said:
        client.post("/admit/")
        Ward.objects.create(name="A")
    assert [(entry.actor, entry.reason) for entry in said] == [("lee", "POST /admit/"), (ACTOR, "")]
    assert current() is None


def test_what_a_login_writes_after_it_has_its_user_has_that_user(database: Path, lee: User) -> None:
    with written(database) as said:
        assert Client().get("/enter/?name=lee").status_code == 200
    # The new session, before anybody is known; the last login; and the session again, which is saved after the view.
    assert [(entry.actor, *entry.rows) for entry in said] == [
        (ANONYMOUS, (SESSION, "insert")),
        ("lee", ("auth_user", "update")),
        ("lee", (SESSION, "update")),
    ]


def test_the_admin_is_named_with_what_it_changes(database: Path, client: Client) -> None:
    with written(database) as said:
        data = {"name": "Ada", "born": "1815-12-10", "ward": "", "allergies": '["penicillin"]', "fee": "1"}
        added = client.post("/admin/ward/patient/add/", data)
        assert added.status_code == 302, added.content.decode()
        pk = Patient.objects.get().pk
        client.post("/admin/ward/patient/", {"action": "delete_selected", "_selected_action": [pk], "post": "yes"})
    assert Patient.objects.count() == 0
    changes = [entry for entry in said if any(table == PATIENT for table, _ in entry.rows)]
    assert [(entry.actor, entry.reason) for entry in changes] == [
        ("lee", "POST /admin/ward/patient/add/"),
        ("lee", "POST /admin/ward/patient/"),
    ]
    # One transaction holds the change and the admin's own note of it.
    assert changes[0].rows == {(PATIENT, "insert"): 1, ("django_admin_log", "insert"): 1}


def test_a_request_under_asgi_acts_in_the_name_of_its_user_in_whatever_thread(database: Path, lee: User) -> None:
    async def request() -> int:
        client = AsyncClient()
        await client.aforce_login(lee)
        response = await client.post("/admit-async/")
        return response.status_code

    with written(database) as said:
        assert asyncio.run(request()) == 200
    made = [entry for entry in said if {table for table, _ in entry.rows} & {PATIENT, WARD}]
    assert sorted((entry.actor, entry.reason, *entry.rows) for entry in made) == [
        ("lee", "POST /admit-async/", (PATIENT, "insert")),
        ("lee", "POST /admit-async/", (WARD, "insert")),
    ]


def test_requests_at_the_same_time_do_not_share_their_actors(database: Path) -> None:
    users = [User.objects.create(username=name) for name in ("ann", "bob")]
    gate = threading.Barrier(2)

    def request(user: User) -> None:
        try:
            with acting(user.username):
                for number in range(5):
                    gate.wait(10)
                    Ward.objects.create(name=f"{user.username} {number}")
        finally:
            connection.close()

    with written(database) as said:
        threads = [threading.Thread(target=request, args=(user,)) for user in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    by_row = {after[1]: actor for actor, after in rows_with_actor(database)}
    assert len(said) == 10
    assert all(name.startswith(actor) for name, actor in by_row.items())


def rows_with_actor(path: Path) -> list[tuple[str, tuple[object, ...]]]:
    from tests.support import files
    from veritydb.events import Rows

    return [
        (transaction.actor, image)
        for transaction in files.transactions(path)
        for event in transaction.events
        if isinstance(event, Rows) and event.table == WARD
        for image in event.after or ()
    ]


def test_acting_inside_acting_says_what_it_says_and_leaves_the_rest(database: Path) -> None:
    with written(database) as said, acting("dr.lee", "round"):
        with acting(reason="emergency"):
            Ward.objects.create(name="A")
        with acting("nurse.joy"):
            Ward.objects.create(name="B")
        Ward.objects.create(name="C")
    assert [(entry.actor, entry.reason) for entry in said] == [
        ("dr.lee", "emergency"),
        ("nurse.joy", "round"),
        ("dr.lee", "round"),
    ]


def test_a_reason_given_inside_of_an_atomic_block_holds_for_the_block(database: Path) -> None:
    with written(database) as said, acting("dr.lee", "POST /"), transaction.atomic():
        Ward.objects.create(name="A")
        with acting(reason="moved"):
            Ward.objects.create(name="B")
    assert said == [("dr.lee", "moved", {(WARD, "insert"): 2})]


def test_acting_is_a_decorator_too(database: Path) -> None:
    @acting("nightly import")
    def task() -> None:
        Ward.objects.create(name="A")

    with written(database) as said:
        task()
    assert [entry.actor for entry in said] == ["nightly import"]


def test_a_management_command_acts_as_the_connection_does(database: Path, lee: User) -> None:
    with written(database) as said:
        call_command("clearsessions")
        Ward.objects.create(name="A")
    assert {entry.actor for entry in said} == {ACTOR}


def test_what_a_program_sets_on_the_connection_stays(database: Path) -> None:
    connection.ensure_connection()
    with written(database) as said:
        connection.connection.actor = "by hand"
        with connection.connection.reason("because"):
            Ward.objects.create(name="A")
            with acting("dr.lee"):
                Ward.objects.create(name="B")
            Ward.objects.create(name="C")
    assert [(entry.actor, entry.reason) for entry in said] == [
        ("by hand", "because"),
        ("dr.lee", "because"),
        ("by hand", "because"),
    ]


def test_finding_out_who_acts_may_write_and_is_not_asked_again_for_that(database: Path) -> None:
    def who() -> str:
        Ward.objects.create(name=f"ward {Ward.objects.count()}")
        return "dr.lee"

    with written(database) as said, acting(who):
        Ward.objects.create(name="A")
    assert [entry.actor for entry in said] == [ACTOR, "dr.lee"]
