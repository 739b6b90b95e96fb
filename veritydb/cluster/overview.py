"""A group at a glance: what its members said of themselves, put together. Pure.

Who counts is what the answers with the newest epoch say, whatever the one who asks has in its file: a member that was
removed does no harm, and one that was added is missed by its number.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from veritydb.cluster.asking import Answered, Unanswered


class Health(Enum):
    """How a group is."""

    GOOD = "good"
    """Every member is ready."""
    DEGRADED = "degraded"
    """It commits, and not every member is ready: another one that fails may be one too many."""
    DOWN = "down"
    """No member that was reached can commit."""


class MemberView(NamedTuple):
    """One member."""

    member: int
    counts: bool
    """Whether it is a member in office."""
    document: Mapping[str, Any] | None
    """What it said; None: it did not."""
    why: str
    """What is wrong with it, in words; empty if nothing is."""

    @property
    def role(self) -> str:
        """Say what it does."""
        if self.document is None:
            return "unreachable"
        if not self.counts:
            return "not a member"
        if not self.document.get("ready"):
            return "not ready"
        return "primary" if self.document.get("primary") == self.member else "backup"

    @property
    def hears_all(self) -> bool:
        """Whether it hears every other member."""
        degraded = self.document["degraded"] if self.document is not None else ()
        return self.document is not None and all(found["state"] != "peer_unreachable" for found in degraded)

    @property
    def is_ready(self) -> bool:
        """Whether it says that it does what the group counts on it for."""
        return self.document is not None and bool(self.document.get("ready"))


class Overview(NamedTuple):
    """A group."""

    cluster: str
    epoch: int
    view: int
    primary: int | None
    commit: int
    members: tuple[MemberView, ...]

    @property
    def health(self) -> Health:
        """Judge it."""
        if self.primary is None:
            return Health.DOWN
        return Health.GOOD if all(one.is_ready for one in self.members if one.counts) else Health.DEGRADED

    def lag(self, one: MemberView) -> int | None:
        """Return how many committed ops a member has before it."""
        return max(0, self.commit - _number(one.document, "commit")) if one.document is not None else None

    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "cluster": self.cluster,
            "health": self.health.value,
            "epoch": self.epoch,
            "view": self.view,
            "primary": self.primary,
            "commit": self.commit,
            "members": [
                {
                    "member": one.member,
                    "counts": one.counts,
                    "role": one.role,
                    "lag": self.lag(one),
                    "why": one.why,
                    "status": one.document,
                }
                for one in self.members
            ],
        }


def overview(cluster: str, answers: Mapping[int, Answered | Unanswered]) -> Overview:
    """Put answers together."""
    told = {member: answer.document for member, answer in answers.items() if isinstance(answer, Answered)}
    newest = max(told.values(), key=lambda document: _number(document, "epoch"), default=None)
    in_office = {int(member) for member in newest["members"]} if newest is not None else set(answers)
    members: list[MemberView] = []
    for member in sorted(in_office | set(answers)):
        answer = answers.get(member)
        if isinstance(answer, Answered):
            found = "; ".join(f"{each['state']}: {each['why']}" for each in answer.document["degraded"])
            members.append(MemberView(member, member in in_office, answer.document, found))
        else:
            why = str(answer) if answer is not None else "its address is not in the configuration"
            members.append(MemberView(member, member in in_office, None, why))
    # Of two who both say that they are primary, the one of the older view has not heard yet that it is not.
    primaries = [one for one in members if one.role == "primary"]
    primary = max(primaries, key=lambda one: _number(one.document, "view"), default=None)
    return Overview(
        cluster,
        _number(newest, "epoch"),
        max((_number(document, "view") for document in told.values()), default=0),
        primary.member if primary is not None else None,
        max((_number(document, "commit_group") for document in told.values()), default=0),
        tuple(members),
    )


def _number(document: Mapping[str, Any] | None, name: str) -> int:
    return int(document.get(name) or 0) if document is not None else 0
