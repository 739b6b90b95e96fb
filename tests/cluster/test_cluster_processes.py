"""A cluster on one machine: started, looked at, restarted member by member under load, stopped; by the commands."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

from tests.cluster.groups import PATIENCE, Stream, group
from tests.cluster.test_cluster_health import wait_for
from veritydb.cluster.asking import Answered, Unanswered
from veritydb.cluster.local import LocalMember, members_in
from veritydb.cluster.overview import Health, overview
from veritydb.cluster.status import Limits, judge


def command(*arguments, code=0):
    """Run ``veritydb cluster …`` and return what it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "veritydb", "cluster", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        env={**os.environ, "COLUMNS": "120", "TERM": "dumb"},
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def pids(folder):
    return [one.pid() for one in members_in(folder)]


def test_a_cluster_is_started_looked_at_and_stopped(folder):
    assert command("start", folder).splitlines() == [
        "member 1: starting", "member 2: starting", "member 3: starting", "ready",
    ]  # fmt: skip
    before = pids(folder)
    assert all(before)
    assert "member 2: runs already" in command("start", folder)
    assert pids(folder) == before

    stream = Stream(group(folder)).create()
    stream.append()
    for place in (folder, folder / "client", folder / "client/client.toml"):
        told = json.loads(command("status", place, "--json"))
        assert told["health"] == "good"
        assert told["primary"] == stream.session.primary
        assert [one["lag"] for one in told["members"]] == [0, 0, 0]
        assert sorted(one["role"] for one in told["members"]) == ["backup", "backup", "primary"]
    stream.close()
    shown = command("status", folder, "--once")
    assert "health good" in shown
    assert f"primary member {told['primary']}" in shown

    backup = next(number for number in (1, 2, 3) if number != told["primary"])
    assert command("stop", folder, "--member", backup) == f"member {backup}: stopped\n"
    told = json.loads(command("status", folder, "--json", code=1))
    assert told["health"] == "degraded"
    assert told["members"][backup - 1]["role"] == "unreachable"
    assert told["members"][backup - 1]["why"] == "connection refused"

    last = command("stop", folder).splitlines()[-1]
    assert last == f"member {told['primary']}: stopped"
    assert pids(folder) == [None, None, None]
    assert json.loads(command("status", folder, "--json", code=7))["health"] == "down"
    assert command("stop", folder) == "none runs that veritydb cluster start has started\n"


def test_members_that_are_left_when_run_is_killed_are_known_and_stopped(folder):
    """Before, nothing knew of them: the next ones could not run beside them, and no command ended them."""
    with open(folder / "run.out", "wb") as out:
        running = subprocess.Popen([sys.executable, "-m", "veritydb", "cluster", "run", folder], stdout=out, stderr=out)
    wait_for(lambda: all(pids(folder)))
    running.kill()
    running.wait()
    left = pids(folder)
    assert all(left)
    assert "member 1 runs already; veritydb cluster stop " in command("run", folder, code=1)
    assert pids(folder) == left
    assert command("stop", folder).count(": stopped") == 3
    assert pids(folder) == [None, None, None]


def test_a_rolling_restart_fails_no_command_of_those_who_wait_ten_seconds(folder):
    command("start", folder)
    streams = [Stream(group(folder)).create() for _ in range(3)]
    working = True
    failures: list[BaseException] = []

    def work(stream):
        try:
            while working:
                stream.append(timeout=10.0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    before = pids(folder)
    told = json.loads(command("status", folder, "--json"))
    primary = told["primary"]
    try:
        lines = command("rolling-restart", folder).splitlines()
        counts = [len(stream.acknowledged) for stream in streams]
        wait_for(lambda: failures or all(len(s.acknowledged) > n for s, n in zip(streams, counts, strict=True)))
    finally:
        working = False
        for thread in threads:
            thread.join()
    assert not failures, failures
    assert sorted(line.split(":")[0] for line in lines) == ["member 1", "member 2", "member 3"]
    # Whoever is primary goes last, each time it is looked; on a busy machine it may become another one meanwhile.
    assert all(": restarted as backup, ready after " in line for line in lines[:2]), lines
    changes = json.loads(command("status", folder, "--json"))["view"] - told["view"]
    expected = f"member {primary}: restarted as primary, ready after "
    assert changes > (" as primary, " in lines[-1]) or lines[-1].startswith(expected), lines
    assert not set(pids(folder)) & set(before)
    for stream in streams:
        assert stream.session.read_head(stream.name, timeout=PATIENCE) == (stream.next_offset, stream.hash)
        stream.close()


def test_nothing_is_restarted_while_a_member_is_missing(folder):
    command("start", folder)
    first = members_in(folder)[0]
    before = pids(folder)
    pid = first.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: first.pid() is None)  # The number in its file is nobody's now.
    assert "member 1 was not started by veritydb cluster start; nothing was restarted" in command(
        "rolling-restart", folder, code=2
    )
    os.kill(before[1], signal.SIGSTOP)
    try:
        first.start()
        told = command("rolling-restart", folder, code=1)
        assert "nothing was restarted" in told
        assert "member 2: " in told
    finally:
        os.kill(before[1], signal.SIGCONT)
    assert pids(folder)[1:] == before[1:]


def test_a_member_that_cannot_start_is_told_with_its_last_words(folder):
    (folder / "node-2/secret").chmod(0o644)
    told = command("start", folder, code=1)
    assert "member 2 has ended: veritydb: " in told
    assert "chmod 600" in told
    assert pids(folder)[1] is None
    told = command("start", folder, "--member", "7", code=2)
    assert "has no folder of member 7" in told
    assert "holds no cluster" in command("start", folder / "client", code=2)
    assert "holds neither a cluster nor a client.toml" in command("status", folder / "node-1", code=2)


def test_a_member_that_does_not_end_is_not_said_to_have(folder):
    (first, *_) = members_in(folder)
    assert first.start()
    assert not first.start()
    pid = first.pid()
    assert pid is not None
    wait_for(lambda: "listening" in first.last_words())
    os.kill(pid, signal.SIGSTOP)
    try:
        assert f"member 1 (process {pid}) has not ended after 0.5 s" in command(
            "stop", folder, "--member", "1", "--timeout", "0.5", code=1
        )
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: first.pid() is None)


def test_a_pid_file_that_is_left_over_is_nobody(folder):
    (folder / "node-1/node.pid").write_text(f"{os.getpid()}\n")
    one = LocalMember(folder / "node-1/node.toml")
    assert one.pid() is None
    assert not one.stop()


# ---- what is made of answers


def answered(member, **changes):
    from tests.cluster.test_cluster_status import GOOD, HEARD, LIMITS

    seen = GOOD._replace(member=member, peers={other: HEARD for other in (1, 2, 3) if other != member})
    return Answered(judge(seen._replace(**changes), LIMITS).document(), 0.001, 0.0)


def test_a_group_is_good_degraded_or_down():
    good = {member: answered(member) for member in (1, 2, 3)}
    assert overview("00", good).health is Health.GOOD
    assert overview("00", {**good, 3: Unanswered("connection refused")}).health is Health.DEGRADED
    assert overview("00", {**good, 2: Unanswered("connection refused")}).health is Health.DOWN  # The primary.
    assert overview("00", {**good, 3: answered(3, records_missing=1)}).health is Health.DEGRADED
    nobody = {member: Unanswered("connection refused") for member in (1, 2, 3)}
    assert overview("00", nobody).health is Health.DOWN


def test_who_counts_is_what_the_newest_epoch_says():
    told = {member: answered(member, epoch=1, members=(2, 3, 4)) for member in (2, 3)}
    seen = overview("00", {1: Unanswered("connection refused"), **told})
    assert [(one.member, one.counts) for one in seen.members] == [(1, False), (2, True), (3, True), (4, True)]
    assert seen.members[3].why == "its address is not in the configuration"


def test_of_two_primaries_the_one_of_the_newer_view_is():
    told = {1: answered(1, primary=1, view=3), 2: answered(2, primary=2, view=4), 3: answered(3, primary=2, view=4)}
    assert overview("00", told).primary == 2


def test_lag_is_what_a_member_lacks_of_what_anybody_has_heard_of():
    told = {1: answered(1, commit=3), 2: answered(2, commit_group=12, commit=12), 3: answered(3)}
    seen = overview("00", told)
    assert [seen.lag(one) for one in seen.members] == [9, 0, 2]
    assert Limits(5.0, 0).behind_ops > 9


def test_the_table_lives_until_it_is_interrupted(folder):
    """In a terminal of its own, as a person would have it."""
    import pty

    command("start", folder)
    parent, child = pty.openpty()
    shown = b""
    process = subprocess.Popen(
        [sys.executable, "-m", "veritydb", "cluster", "status", str(folder), "--interval", "0.2"],
        stdout=child, stderr=child, stdin=child,
        env={**os.environ, "COLUMNS": "120", "TERM": "xterm"},
        # Who runs the tests may be deaf to it, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  it takes no lock
    )  # fmt: skip
    os.close(child)
    try:
        deadline = time.monotonic() + PATIENCE
        while shown.count(b"health") < 3:
            assert time.monotonic() < deadline, shown
            shown += os.read(parent, 4096)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # Once nobody has the other end any more.
            while os.read(parent, 4096):  # What nobody reads would hold up who writes it.
                assert time.monotonic() < deadline
        assert process.wait(timeout=PATIENCE) == 130
    finally:
        process.kill()
        process.wait()
        os.close(parent)
