"""Other members, and a member's new disk: the steps, as ``veritydb cluster add | remove | replace-disk`` take them.

Each is a step that may be repeated: whatever was done stays done, and the rest follows. What the members agree on is
one op (:mod:`veritydb.vsr.reconfiguration`); around it lie files: a folder for who comes, and everybody's address in
everybody's ``[members]``, which a node reads again on SIGHUP.
"""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from veritydb import kernel
from veritydb.cluster.clients import group_of
from veritydb.cluster.config import CLIENT_FILE, SLOTS, Address, options_for, read_client_config, read_config
from veritydb.cluster.files import replace
from veritydb.cluster.founding import format_member, make_node
from veritydb.cluster.overview import Overview
from veritydb.cluster.session import Session
from veritydb.errors import ConfigurationError, GroupUnavailable, OperationalError

PAUSE_SECONDS = 0.2
ASK_SECONDS = 2.0
_WAIT_FOR = ("does not follow this group", "ask again when it has caught up")


class InOffice(NamedTuple):
    """Who counts, in the order in which they take turns."""

    epoch: int
    view: int
    members: tuple[int, ...]


def in_office(seen: Overview) -> InOffice:
    """Return who counts, by what the members said of themselves. Raises OperationalError if none of them commits."""
    documents = [one.document for one in seen.members if one.document is not None]
    if seen.primary is None or not documents:
        raise OperationalError("the group has no primary now, so its members cannot be changed; nothing was changed")
    newest: Any = max(documents, key=lambda document: int(document["epoch"]))
    return InOffice(int(newest["epoch"]), seen.view, tuple(int(member) for member in newest["members"]))


def prepare(folder: Path, address: Address, now: InOffice) -> int:
    """Make the folder of a member to be, unless there is one; return its number. It begins as a learner.

    A number is never used again: who had it may have promised something.
    """
    admin = read_client_config(folder / "admin")
    configs = {path: read_config(path) for path in sorted(folder.glob("node-*/node.toml"))}
    for config in configs.values():
        if config.address == address and config.member not in now.members:
            return config.member
    if address in {*admin.members.values(), *(config.address for config in configs.values())}:
        raise ConfigurationError(f"{address} is a member's already; nothing was changed")
    used = {*now.members, *admin.members, *(config.member for config in configs.values()), *_numbers(folder)}
    number = max(used) + 1
    members = {member: admin.members[member] for member in sorted(admin.members)} | {number: address}
    slots = next(iter(configs.values())).slots if configs else SLOTS
    rights = next((path for path in sorted(folder.glob("node-*/rights.toml"))), None)
    home = make_node(folder, admin.cluster, number, members, slots=slots, rights=rights)
    format_member(home / "data" / "replica", admin.cluster, number, now.members, slots=slots, epoch=now.epoch)
    return number


def _numbers(folder: Path) -> list[int]:
    return [int(path.name[5:]) for path in folder.glob("node-*") if path.name[5:].isdecimal()]


def address_books(folder: Path) -> list[Path]:
    """Return the files in a cluster's folder that say where the members are."""
    return sorted([*folder.glob("node-*/node.toml"), *folder.glob(f"*/{CLIENT_FILE}")])


def set_address(path: Path, member: int, address: Address | None) -> bool:
    """Write a member's address into the ``[members]`` of a file, or take it out; whether that changed anything.

    Raises ConfigurationError if the file has another form than ours.
    """
    text = path.read_text(encoding="utf-8")
    before = tomllib.loads(text)
    wanted = {name: told for name, told in before["members"].items() if int(name) != member}
    if address is not None:
        wanted[str(member)] = str(address)
    if before["members"] == wanted:
        return False
    changed = with_address(text, member, address)
    if tomllib.loads(changed) != before | {"members": wanted}:
        raise ConfigurationError(f"{path}: write the address of member {member}, {address}, into [members] by hand")
    replace(path, changed.encode())
    return True


def with_address(text: str, member: int, address: Address | None) -> str:
    """Return a file's text with a member's address in its ``[members]``, or without it."""
    lines = text.splitlines(keepends=True)
    begin = next((at for at, line in enumerate(lines) if line.split("#")[0].strip() == "[members]"), None)
    if begin is None:
        return text
    end = next((at for at in range(begin + 1, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))
    section = [line for line in lines[begin + 1 : end] if not re.match(rf'\s*"?{member}"?\s*=', line)]
    if address is not None:
        last = max((at for at, line in enumerate(section, 1) if line.strip()), default=0)
        if last and not section[last - 1].endswith("\n"):
            section[last - 1] += "\n"
        section.insert(last, f'{member} = "{address}"\n')
    return "".join([*lines[: begin + 1], *section, *lines[end:]])


def reconfigure(
    folder: Path, members: tuple[int, ...], seconds: float, tell: Callable[[str], object] = lambda why: None
) -> None:
    """Have these members take office. ``tell`` is told what it waits for.

    Raises OperationalError if the group refuses, or not within the time; asking again does no harm.
    """
    session = Session(group_of(read_client_config(folder / "admin"), secret=folder / "secret"))
    deadline = time.monotonic() + seconds
    why = ""
    try:
        while True:
            try:
                answer = session.reconfigure(members, timeout=max(ASK_SECONDS, min(10.0, seconds)))
            except GroupUnavailable as error:
                said = str(error)
            else:
                if answer.accepted:
                    return
                said = answer.why
                if not any(words in said for words in _WAIT_FOR):
                    raise OperationalError(f"the group refuses: {said}; its members are who they were")
            if said != why:
                why = said
                tell(said)
            if time.monotonic() > deadline:
                raise OperationalError(f"not in office after {seconds:g} s: {said}; ask again with the same command")
            time.sleep(PAUSE_SECONDS)
    finally:
        session.close()


def replace_disk(folder: Path, member: int, now: InOffice, look: Callable[[], Overview], *, seconds: float) -> Path:
    """Make an empty disk for a member whose own is gone, so that it denies nothing that it may have acknowledged.

    The others first commit as many ops as can be in flight: then whatever the lost disk had acknowledged is committed,
    or never will be; and the new disk begins in a view above any in which the old one can have promised something
    (docs/internals/vsr.md, "A disk is lost"). What is left of the old one stays beside it. Raises ConfigurationError,
    OperationalError.
    """
    config = read_config(folder / f"node-{member}" / "node.toml")
    if member not in now.members:
        raise ConfigurationError(f"member {member} is not in office; veritydb cluster add makes a new one")
    if len(now.members) == 1:
        raise ConfigurationError(f"member {member} is the only one: nobody else has what was on its disk")
    session = Session(group_of(read_client_config(folder / "admin")))
    try:
        for _ in range(options_for(config.slots).pipeline_max):
            session.command(kernel.ListStreams(0, 0), timeout=seconds)
    finally:
        session.close()
    after = in_office(look())
    if after.epoch != now.epoch:
        raise OperationalError("the members were changed meanwhile; nothing was changed here, try again")
    home = config.data / "replica"
    if home.exists():
        home.rename(_free(home))
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    view = max(now.view, after.view) + 2
    format_member(home, config.cluster, member, now.members, slots=config.slots, epoch=now.epoch, view=view)
    return home


def _free(path: Path) -> Path:
    return next(
        free for number in range(1 << 20) if not (free := path.with_name(f"{path.name}-lost-{number}")).exists()
    )
