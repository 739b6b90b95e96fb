"""Other members: a learner catches up and takes office, a member leaves, one that missed it hears of it."""

from __future__ import annotations

import os
from collections import deque

import pytest

from tests.support.members import CLUSTER, OPTIONS, ROOT, SNAPSHOT, Disk
from veritydb import kernel
from veritydb.vsr.effects import (
    Answer,
    Arrived,
    Committed,
    Halt,
    ReadDone,
    Retained,
    Send,
    Tick,
    Write,
    WriteDone,
    Zone,
)
from veritydb.vsr.messages import Reconfigure, Reconfigured, Reply, Request
from veritydb.vsr.reconfiguration import BadMembers, decode_members, encode_members
from veritydb.vsr.replica import Replica, Status
from veritydb.vsr.superblock import COPIES, as_copy, first_superblock

CLIENT = os.urandom(16)
PLACEMENT = kernel.Placement(kernel.DataClass.NON_PHI, "")


def _never():
    return False


class World:
    """Replicas, their disks, and messages that arrive in order, except to and from those that are ``away``."""

    def __init__(self, members, learners=(), view=None):
        self.events = deque()
        self.away = set()
        self.answers = []
        self.disks = {}
        self.replicas = {}
        self.committed = {}
        self.session = self.number = 0
        for member in (*members, *learners):
            self.join(member, members, 0)

    def join(self, member, members, view):
        block = first_superblock(
            cluster=CLUSTER, member=member, members=tuple(members), root=ROOT.header, snapshot=SNAPSHOT, view=view
        )
        self.disks[member] = Disk(block)
        self.boot(member)

    def boot(self, member):
        replica = Replica(
            cluster=CLUSTER, member=member, image=self.disks[member].image(), seed=member + 1, options=OPTIONS
        )
        self.replicas[member] = replica
        self.carry_out(member, replica.start(0))

    def carry_out(self, member, effects):
        disk = self.disks[member]
        for effect in effects:
            if isinstance(effect, Send):
                if not {member, effect.dst} & self.away and effect.dst in self.replicas:
                    self.events.append((effect.dst, Arrived(effect.message)))
            elif isinstance(effect, Write):
                if effect.zone is Zone.SUPERBLOCK:
                    disk.superblock = [as_copy(effect.data, number) for number in range(COPIES)]
                elif effect.zone is Zone.SNAPSHOT:
                    disk.snapshots[effect.key] = effect.data
                else:
                    (disk.entries if effect.zone is Zone.ENTRY else disk.headers)[effect.key] = effect.data
                self.events.append((member, WriteDone(effect.token, True)))
            elif isinstance(effect, Committed):
                assert self.committed.setdefault(effect.header.op, effect.header.checksum) == effect.header.checksum
                self.events.append((member, Retained(effect.header.op)))
            elif isinstance(effect, Answer):
                self.answers.append(effect.message)
            elif isinstance(effect, Halt):
                raise AssertionError((member, effect.reason))
            elif hasattr(effect, "token"):
                self.events.append((member, ReadDone(effect.token, disk.entries[effect.key])))

    def run(self, ticks=300, until=_never):
        for _ in range(ticks):
            while self.events:
                member, event = self.events.popleft()
                self.carry_out(member, self.replicas[member].step(0, event))
            if until():
                return
            for member, replica in self.replicas.items():
                if member not in self.away:
                    self.carry_out(member, replica.step(0, Tick()))
        assert until is _never or until(), {member: repr(vars(one)) for member, one in self.replicas.items()}

    def primary(self):
        found = [
            member
            for member, replica in self.replicas.items()
            if member not in self.away and replica.is_primary and replica.view_committed and replica.is_voter
        ]
        return max(found, key=lambda member: self.replicas[member].view) if found else None

    def commit(self, count=1):
        """Have the group carry out requests, wherever its primary is."""
        for _ in range(count):
            command = kernel.Register() if not self.session else kernel.CreateStream(os.urandom(16), PLACEMENT)
            request = Request(CLIENT, self.session, self.number, kernel.encode_command(command), 0)
            self.answers.clear()
            for _ in range(40):
                self.run(until=lambda: self.primary() is not None)
                self.events.append((self.primary(), Arrived(request)))
                self.run(ticks=20)
                if any(isinstance(answer, Reply) and answer.number == self.number for answer in self.answers):
                    break
            else:
                raise AssertionError("no answer")
            self.session = self.session or next(a.op for a in self.answers if isinstance(a, Reply))
            self.number += 1

    def ask(self, *members):
        """Ask for other members until they are in office, or are refused."""
        epoch = max(replica.epoch for replica in self.replicas.values())
        for number in range(1, 60):
            self.run(until=lambda: self.primary() is not None)
            self.answers.clear()
            self.events.append((self.primary(), Arrived(Reconfigure(CLIENT, number, members, epoch))))
            self.run(ticks=20)
            found = [answer for answer in self.answers if isinstance(answer, Reconfigured)]
            if found and (found[0].accepted or found[0].why):
                return found[0]
        raise AssertionError("no answer")

    def agreed(self, *members):
        """Whether these are the members, all normal, all with one log."""
        replicas = [self.replicas[member] for member in members]
        return all(r.members == tuple(members) and r.status is Status.NORMAL for r in replicas) and (
            len({(r.epoch, r.view, r.commit_min) for r in replicas}) == 1
        )


def test_a_learner_catches_up_and_takes_office():
    world = World((0, 1, 2), learners=(3,))
    world.commit(20)  # More than two checkpoints: the learner has to be given a snapshot or every op.
    answer = world.ask(0, 1, 2, 3)
    assert answer.accepted, answer.why
    world.run(until=lambda: world.agreed(0, 1, 2, 3))
    world.commit(3)
    world.run(until=lambda: world.agreed(0, 1, 2, 3))
    assert {world.replicas[member].epoch for member in range(4)} == {1}


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_a_member_leaves_whoever_is_primary(leaving):
    world = World((0, 1, 2))
    world.commit(2)
    rest = tuple(member for member in (0, 1, 2) if member != leaving)
    assert world.ask(*rest).accepted
    world.run(until=lambda: world.agreed(*rest))
    world.away.add(leaving)
    world.commit(3)
    assert not world.replicas[leaving].is_voter


def test_a_member_is_replaced_one_step_after_the_other():
    world = World((0, 1, 2), learners=(3,))
    world.commit(3)
    world.away.add(2)
    assert world.ask(0, 1, 2, 3).accepted
    assert world.ask(0, 1, 3).accepted
    world.run(until=lambda: world.agreed(0, 1, 3))
    world.commit(3)
    world.away.add(1)
    world.commit(2)


def test_a_member_that_missed_the_end_of_its_epoch_hears_of_it():
    world = World((0, 1, 2), learners=(3,))
    world.commit(3)
    absent = next(member for member in (0, 1, 2) if member != world.primary())
    world.away.add(absent)
    assert world.ask(0, 1, 2, 3).accepted
    world.commit(12)
    world.away.clear()
    world.run(until=lambda: world.agreed(0, 1, 2, 3))


def test_a_restarted_member_remembers_its_epoch():
    world = World((0, 1, 2), learners=(3,))
    world.commit(3)
    assert world.ask(0, 1, 2, 3).accepted
    world.run(until=lambda: world.agreed(0, 1, 2, 3))
    for member in (0, 1, 2, 3):
        world.boot(member)
    world.run(until=lambda: world.agreed(0, 1, 2, 3))
    world.commit(2)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ((0, 1, 2, 9), "does not follow"),
        ((0,), "one member at a time"),
        ((0, 1, 3), "one member at a time"),
        ((0, 0, 1, 2), "different members"),
        ((), "different members"),
        (tuple(range(7)), "different members"),
    ],
)
def test_what_is_not_one_step_away_is_refused(members, why):
    world = World((0, 1, 2))
    world.commit()
    answer = world.ask(*members)
    assert not answer.accepted
    assert why in answer.why


def test_a_lost_disk_comes_back_in_a_later_view_under_its_number():
    world = World((0, 1, 2))
    world.commit(5)
    lost = next(member for member in (0, 1, 2) if member != world.primary())
    world.away.add(lost)
    world.commit(OPTIONS.pipeline_max)
    view = max(replica.view for member, replica in world.replicas.items() if member != lost)
    world.away.clear()
    world.join(lost, (0, 1, 2), view + 2)
    world.run(until=lambda: world.agreed(0, 1, 2))
    world.commit(2)


def test_members_are_read_as_they_were_written():
    assert decode_members(encode_members(7, (5, 1 << 60))) == (7, (5, 1 << 60))


@pytest.mark.parametrize(
    "body", [b"", encode_members(1, (1, 2))[:-1], encode_members(1, (1, 1)), encode_members(1, ())]
)
def test_bytes_that_name_no_members_are_refused(body):
    with pytest.raises(BadMembers):
        decode_members(body)
