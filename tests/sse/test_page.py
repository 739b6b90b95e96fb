"""The live page in a real browser: Debian's Chromium, without a head, on a real server.

Screenshots are kept in ``build/screenshots``; look at them after a change of the page.
"""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.support.cli import KEY, ROOT
from tests.support.served import ALL_KEY, NOBODY_KEY, WARD_KEY, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.sse.conftest import Clinic

CHROMIUM = shutil.which("chromium")
SCREENSHOTS = ROOT / "build" / "screenshots"
# No network but the server's: the browser must not look for its maker's hosts.
ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]
SOON = 15_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1360, "height": 820})
    page = context.new_page()
    page.set_default_timeout(SOON)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    yield page
    context.close()
    assert failures == []
    assert all(url.startswith(("http://127.0.0.1:", "data:")) for url in requested), requested


@pytest.fixture
def ui(clinic: Clinic) -> Iterator[Server]:
    db = clinic.db
    with db.reason("admission"):
        for name, ward in (("Jane Smith", "A"), ("Ali Hassan", "B"), ("Maria Garcia", "A"), ("Chen Wei", "B")):
            db.execute("INSERT INTO patients (name, ward, ssn) VALUES (?, ?, ?)", (name, ward, "078-05-1120"))
    with db.reason("moved to intensive care"):
        db.execute("UPDATE patients SET ward = 'ICU' WHERE id = 2")
    with Server(clinic.path, server_config(), "--ui", key=KEY) as server:
        yield server


def server_config() -> str:
    from tests.support.served import CONFIG

    return CONFIG + "\n[streams]\nretry_ms = 200\n"


def keep(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def enter(page: Page, server: Server, key: str = ALL_KEY) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/#key={key}")
    expect(page.locator("#state")).to_have_text("Live", timeout=SOON)
    assert key not in page.url


def cells(page: Page) -> list[str]:
    return page.locator("#table tbody tr").all_inner_texts()


def test_it_opens_and_shows_a_commit_at_once(page: Page, ui: Server, clinic: Clinic) -> None:
    """Table, change with before and after, who, why, offset. How soon, ``make bench-subscriptions`` measures."""
    enter(page, ui)
    page.get_by_role("button", name="patients").click()
    expect(page.locator("#table tbody tr")).to_have_count(4)
    with clinic.db.reason("discharge"):
        clinic.db.execute("UPDATE patients SET ward = 'home' WHERE id = 1")
    first = page.locator("#feed > li").first
    expect(first).to_contain_text("discharge", timeout=SOON)
    expect(first).to_have_class("change update fresh")
    expect(first.locator("del")).to_have_text("A")
    expect(first.locator("ins")).to_have_text("home")
    expect(first).to_contain_text("dr.lee")
    expect(first).to_contain_text(f"#{clinic.db.last_offset}")
    expect(page.locator("#table tbody tr", has_text="Jane Smith")).to_contain_text("home")
    expect(page.locator("#h-file")).to_have_text("in step, encrypted")
    expect(page.locator("#h-quorum")).to_have_text("1 of 1, durable")
    keep(page, "live")


def test_an_address_with_a_key_signs_in_where_the_page_is_open_already(page: Page, ui: Server) -> None:
    page.goto(f"http://127.0.0.1:{ui.port}/")
    expect(page.locator("#state")).to_have_text("Signed out", timeout=SOON)
    enter(page, ui)


def test_a_restart_of_the_server_leaves_no_gap(page: Page, ui: Server, clinic: Clinic) -> None:
    """Twice: once it is told to end, once it is killed. What was committed meanwhile is there, once."""
    enter(page, ui)
    for life, number in enumerate((signal.SIGTERM, signal.SIGKILL)):
        ui.stop(number)
        expect(page.locator("#state")).not_to_have_text("Live", timeout=SOON)
        for name in ("first", "second"):
            clinic.db.execute("INSERT INTO patients (name, ward) VALUES (?, 'C')", (f"{name} of {life}",))
        if not life:
            keep(page, "away")
        ui.start()
        expect(page.locator("#state")).to_have_text("Live", timeout=SOON)
        clinic.db.execute("INSERT INTO patients (name, ward) VALUES (?, 'C')", (f"third of {life}",))
        expect(page.locator("#feed > li").first).to_contain_text(f"third of {life}")
    ids = page.locator("#feed > li").evaluate_all("items => items.map(item => item.dataset.id.split('@')[0])")
    places = [tuple(map(int, each.split("."))) for each in ids]
    assert places == sorted(set(places), reverse=True)
    assert places[0][0] == clinic.db.last_offset
    assert len({offset for offset, _ in places}) == clinic.db.last_offset + 1  # From the first transaction on.


def test_the_slider_shows_the_table_as_it_was(page: Page, ui: Server, clinic: Clinic) -> None:
    enter(page, ui)
    page.get_by_role("button", name="patients").click()
    expect(page.locator("#table tbody tr")).to_have_count(4)
    page.locator("#slider").fill("3")
    expect(page.locator("#as-of")).to_contain_text("as of offset 3")
    expect(page.locator("#table tbody tr")).to_have_count(2)
    page.locator("#slider").fill("5")
    expect(page.locator("#as-of")).to_contain_text("as of offset 5")
    expect(page.locator("#table tbody tr", has_text="Ali Hassan")).to_contain_text("B")
    keep(page, "past")
    page.locator("#slider").fill("0")
    expect(page.locator("#rows-note")).not_to_be_empty()
    page.get_by_role("button", name="Now").click()
    expect(page.locator("#table tbody tr", has_text="Ali Hassan")).to_contain_text("ICU")


def test_search_finds_rows_and_changes(page: Page, ui: Server) -> None:
    enter(page, ui)
    page.get_by_role("button", name="patients").click()
    page.get_by_label("Search rows and changes").fill("garcia")
    expect(page.locator("#table tbody tr")).to_have_count(1)
    expect(page.locator("#feed > li:visible")).to_have_count(1)
    page.get_by_label("Search rows and changes").fill("100%_")
    expect(page.locator("#rows-note")).to_have_text("No row has that in it.")


def test_a_role_sees_its_part_and_who_has_no_rights_sees_nothing(page: Page, ui: Server, clinic: Clinic) -> None:
    enter(page, ui, WARD_KEY)
    expect(page.locator("#tables button")).to_have_count(1)
    expect(page.locator("#table tbody tr")).to_have_count(2)
    assert "078-05-1120" not in page.content()
    assert "Ali Hassan" not in page.content()
    keep(page, "ward")
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#sign-in")).to_be_visible()
    page.get_by_label("Key or token").fill("vk_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#sign-in-problem")).to_contain_text("not valid")
    keep(page, "sign-in")
    page.get_by_label("Key or token").fill(NOBODY_KEY)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#state")).to_have_text("Live", timeout=SOON)
    clinic.db.execute("INSERT INTO patients (name, ward) VALUES ('unseen', 'A')")
    expect(page.locator("#h-offset")).to_have_text(str(clinic.db.last_offset), timeout=SOON)  # It has heard of it,
    expect(page.locator("#no-tables")).to_be_visible()
    assert page.locator("#feed > li").count() == 0  # and shows nothing.
    for name in ("patients", "secrets", "Jane", "unseen"):
        assert name not in page.content()


def test_what_is_in_the_database_is_text_and_never_markup(page: Page, ui: Server, clinic: Clinic) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    enter(page, ui)
    page.get_by_role("button", name="patients").click()
    clinic.db.execute("INSERT INTO patients (name, ward) VALUES (?, ?)", (evil, "${1}"))
    expect(page.locator("#table tbody tr").first).to_contain_text(evil)
    expect(page.locator("#feed > li").first).to_contain_text(evil)
    assert page.locator("main img, main script").count() == 0


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1360), ("light", 400)])
def test_it_is_good_to_look_at_in_the_dark_and_on_a_phone(
    browser: Browser, ui: Server, scheme: Any, width: int
) -> None:
    """Nothing runs over the edge; every control has a name; it can be worked with the keyboard alone."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 860})
    page = context.new_page()
    try:
        enter(page, ui)
        page.get_by_role("button", name="patients").click()
        expect(page.locator("#table tbody tr")).to_have_count(4)
        keep(page, f"{scheme}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, input')].filter(each => each.offsetParent && !each.innerText.trim()"
            " && !each.labels?.length && !each.ariaLabel).length"
        )
        assert nameless == 0
        page.locator("#slider").focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#slider-text")).to_contain_text("offset")
    finally:
        context.close()
