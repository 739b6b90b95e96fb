"""What every test shares: the fixture that checks replay against life, and examples that are the same everywhere.

``pytest`` alone runs what CI runs, bit for bit; ``pytest --campaign`` runs many random examples and long runs whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import providers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    from tests.support.captured import Make
    from tests.support.life import Life
    from veritydb.log import Log

    Count: TypeAlias = Callable[[str, int], None]
    """Adds to a count of what a test has done, which the end of the run reports."""

# Hypothesis loads a profile of its own when it sees the variable CI, so a suite without an explicit profile explores
# other examples there than it did where it was written. These two profiles depend on nothing around them.
settings.register_profile(
    "fixed",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    max_examples=50,
    stateful_step_count=30,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    # The health checks that look at a clock would make a slow machine fail.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
settings.register_profile(
    "campaign",
    settings.get_profile("fixed"),
    derandomize=False,
    max_examples=2_000,
    stateful_step_count=60,
)
settings.load_profile("fixed")

# Hypothesis also draws from the constants of whatever local modules happen to be loaded, so one seed gives one example
# when a file is tested alone, another in the whole suite, a third where the checkout's path contains "test". Not here.
providers._get_local_constants = providers.Constants


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the long runs, and new transcripts."""
    parser.addoption("--campaign", action="store_true", help="random examples, and the long runs in full length")
    parser.addoption("--rewrite-transcripts", action="store_true", help="write down what the replicas do now")


def pytest_configure(config: pytest.Config) -> None:
    """Pick the profile, unless the command line names one."""
    if not config.getoption("--hypothesis-profile", None):
        settings.load_profile("campaign" if config.getoption("--campaign") else "fixed")


@pytest.fixture
def count_of(request: pytest.FixtureRequest) -> Count:
    """Count what the test has done: kills, faults, places. ``make campaign`` ends with the sums."""

    def add(what: str, count: int) -> None:
        request.node.user_properties.append(("count", (what, int(count))))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report the sums, after a campaign."""
    if not config.getoption("--campaign"):
        return
    sums: dict[str, int] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "count" and report.when == "call":
                    sums[value[0]] = sums.get(value[0], 0) + value[1]
    if sums:
        terminalreporter.section("what was tried")
        for what in sorted(sums):
            terminalreporter.line(f"{sums[what]:>13,} {what}")


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest) -> bool:
    """Whether the long runs were asked for."""
    return bool(request.config.getoption("--campaign"))


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that VerityDB reads are not set, whoever runs the tests."""
    import os

    for name in [name for name in os.environ if name.startswith("VERITYDB_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """Databases whose log is replayed and compared with them at the end of the test."""
    from tests.support.life import Life

    with Life(tmp_path) as lives:
        yield lives


@pytest.fixture
def make() -> Iterator[Make]:
    """Make plain connections with capture on them, which the test need not close."""
    from tests.support.captured import making

    yield from making()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a log may be made."""
    return tmp_path / "a.db-log"


@pytest.fixture
def disk(folder: Path) -> Iterator[Log]:
    """A log there, of small segments."""
    from tests.support.logs import SMALL, STREAM
    from veritydb.log import Log

    log = Log.create(folder, STREAM, segment_size=SMALL)
    yield log
    log.close()
