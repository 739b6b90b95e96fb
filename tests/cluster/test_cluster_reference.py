"""docs/reference/node.md lists the settings, the states and the metrics that there are, and no others."""

from __future__ import annotations

import re

from tests.cluster.test_cluster_status import GOOD, LIMITS
from tests.test_reference import section
from veritydb.cluster.config import SETTINGS, NodeConfig
from veritydb.cluster.metrics import Metrics
from veritydb.cluster.status import State, judge

PAGE = "node.md"


def first_column(heading: str) -> list[str]:
    """Return what stands in code in the first cell of each row."""
    rows = [line for line in section(PAGE, heading).splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_the_settings_on_the_page_are_those_that_there_are():
    assert sorted(first_column("Settings")) == sorted(SETTINGS)
    assert set(SETTINGS) == set(NodeConfig._fields)
    defaults = {
        row.split("|")[1].strip(" `"): row.split("|")[2].strip()
        for row in section(PAGE, "Settings").splitlines()
        if row.startswith("| `")
    }
    for name, default in NodeConfig._field_defaults.items():
        if default is not None:
            assert defaults[name] == f"{default:g}" if isinstance(default, float) else str(default), name


def test_the_states_on_the_page_are_those_that_there_are():
    told = {
        row.split("|")[1].strip(" `"): row.split("|")[2].strip()
        for row in section(PAGE, "Health").splitlines()
        if re.match(r"\| `[a-z_]+` \| (yes|no) \|", row)
    }
    assert told == {state.label: "yes" if state.is_ready else "no" for state in State}


def test_the_metrics_on_the_page_are_those_that_there_are():
    metrics = Metrics(lambda: judge(GOOD, LIMITS), lambda: {"x": 1}, lambda: {"y": 1})
    text = metrics.render().decode()
    made = {
        re.sub(r"_(total|info)$", "", name) if kind == "counter" else name
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
        if not name.endswith("_created") and "_process_" not in name
    }
    assert made == set(first_column("Metrics"))
    for name in re.findall(r"`(veritydb_node_process_\w+)`", section(PAGE, "Metrics")):
        assert name in text


def test_the_fields_of_a_status_are_on_the_page():
    page = section(PAGE, "Health")
    for name in {*judge(GOOD, LIMITS).document()} - {
        "degraded",
        "ready",
        "suspects",
        "overdue_seconds",
        "stuck",
        "awaited",
    }:
        assert f"`{name}`" in page, name
