"""What an extra brings is enough for what it is for: nothing is imported that only a developer has."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODULES = {
    "": ["veritydb", "veritydb.subscriptions.feed", "veritydb.cli.tail_command", "veritydb.cli.consumers_command"],
    "aio": ["veritydb.aio", "veritydb.subscriptions.asynchronous"],
    "server": ["veritydb.sse.app", "veritydb.sse.serving", "veritydb.sse.settings", "veritydb.cli.serve_command"],
    "sqlalchemy": ["veritydb.sqlalchemy.dialect"],
    "django": ["veritydb.django.base"],
    "nats": ["veritydb.cluster.reaching", "veritydb.nats.sequencer"],
    "cluster": ["veritydb.cluster.reaching", "veritydb.cluster.node"],
}

IMPORT = """
import sys
allowed, modules = set(sys.argv[1].split(",")), sys.argv[2].split(",")
class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        if top in DISTRIBUTED and top not in allowed:
            raise ModuleNotFoundError(f"{name} is not in the extra", name=name)
from importlib import import_module, metadata
DISTRIBUTED = set(metadata.packages_distributions()) - set(sys.stdlib_module_names)
sys.meta_path.insert(0, Refuse)
for module in modules:
    import_module(module)
"""


def name_of(requirement: str) -> str:
    """Return the normalised name of what is required."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def brought_by(requirements: list[str]) -> set[str]:
    """Return the distributions that these bring, with what they bring."""
    found: set[str] = set()
    waiting = [(name_of(each), re.search(r"\[(.*?)\]", each.partition(";")[0])) for each in requirements]
    while waiting:
        name, extra = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        chosen = extra.group(1).split(",") if extra else []
        for each in needed:
            of_extra = re.search(r"extra == ['\"](.*?)['\"]", each)
            if of_extra is None or of_extra.group(1) in chosen:
                waiting.append((name_of(each), re.search(r"\[(.*?)\]", each.partition(";")[0])))
    return found


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_is_enough_for_what_it_is_for(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    distributions = brought_by(requirements) | {"veritydb"}
    allowed = {
        top
        for top, names in metadata.packages_distributions().items()
        if any(name_of(name) in distributions for name in names)
    }
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, ",".join(sorted(allowed)), ",".join(MODULES[extra])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
