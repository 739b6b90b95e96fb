"""``python -m benchmarks [--rounds N] [--cpu] [NAME …]``: measure, print, and exit with 1 if a floor does not hold."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from benchmarks import (
    bulk,
    cluster,
    commits,
    django_orm,
    opens,
    reads,
    rebuilds,
    sqlalchemy_orm,
    subscriptions,
    subscriptions_http,
    vsr,
)
from benchmarks.measuring import count_cpu, fsync_probe, workplace

ALL = {
    "commits": commits,
    "bulk": bulk,
    "reads": reads,
    "rebuilds": rebuilds,
    "opens": opens,
    "sqlalchemy": sqlalchemy_orm,
    "django": django_orm,
    "subscriptions": subscriptions,
    "subscriptions_http": subscriptions_http,
    "vsr": vsr,
    "cluster": cluster,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(ALL)} (all but cluster)")
    parser.add_argument("--rounds", type=int, default=5, help="turns each side takes (5)")
    parser.add_argument("--cpu", action="store_true", help="count CPU time, on a machine with busy neighbours")
    arguments = parser.parse_args()
    if arguments.cpu:
        count_cpu()
    unknown = set(arguments.names) - set(ALL)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    table = Table("work", "VerityDB", "peer", "measured", "floor", "")
    missed = 0
    for name in arguments.names or [name for name in ALL if name != "cluster"]:
        with workplace() as folder:
            probe = fsync_probe(folder)
            for measured in ALL[name].measure(folder, arguments.rounds):
                sign = "<=" if measured.at_most else ">="
                table.add_row(
                    measured.name,
                    measured.ours,
                    measured.peer,
                    f"{measured.value:.2f}{measured.unit}",
                    "" if measured.floor is None else f"{sign} {measured.floor:g}",
                    "" if measured.floor is None else "ok" if measured.holds else "MISSED",
                )
                missed += not measured.holds
            table.add_row("  fsync probe", f"{probe:.2f} ms", "", "", "", end_section=True)
    Console().print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
