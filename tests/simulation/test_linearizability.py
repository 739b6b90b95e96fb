"""The checker agrees with what is known of recorded histories, and with brute force on small ones."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import histories
from tests.support.histories import FOLDER, MISSING, Accounts, AppendedText, Counter, Mutex, Register, Summing
from veritydb.simulation.linearizability import Operation, Undecided, by_object, check, check_each

needs_histories = pytest.mark.skipif(FOLDER is None, reason=MISSING)  # they are not ours to put into the project


def reading(call: int, ret: int | None, output: Any) -> Operation:
    return Operation(call, ret, ("read", None), output)


def writing(call: int, ret: int | None, value: Any) -> Operation:
    return Operation(call, ret, ("write", value), None)


def test_a_read_sees_the_write_that_returned_before_it() -> None:
    assert check(Register(), [writing(0, 1, "a"), reading(2, 3, "a")]).ok


def test_a_read_that_misses_the_write_that_returned_before_it_is_found() -> None:
    verdict = check(Register(), [writing(0, 1, "a"), reading(2, 3, "nothing")])

    assert not verdict.ok
    assert verdict.stuck == 1
    assert verdict.order == (0,)


def test_operations_that_overlap_may_be_in_either_order() -> None:
    assert check(Register(), [writing(0, 3, "a"), reading(1, 2, "nothing")]).ok
    assert check(Register(), [writing(0, 3, "a"), reading(1, 2, "a")]).ok


def test_operations_that_touch_are_taken_to_overlap() -> None:
    assert check(Register(), [writing(0, 1, "a"), reading(1, 2, "nothing")]).ok


def test_an_unknown_write_may_have_happened_late_or_never() -> None:
    unknown = writing(0, None, "a")

    assert check(Register(), [unknown, reading(5, 6, "nothing"), reading(7, 8, "a")]).ok
    assert check(Register(), [unknown, reading(5, 6, "nothing")]).ok
    assert not check(Register(), [unknown, reading(5, 6, "a"), reading(7, 8, "nothing")]).ok


def test_two_reads_in_turn_may_not_go_back() -> None:
    history = [writing(0, 9, "a"), reading(1, 2, "a"), reading(3, 4, "nothing")]

    assert not check(Register(), history).ok


def test_a_search_without_end_says_that_it_does_not_know() -> None:
    history = [writing(0, 100, n) for n in range(12)] + [reading(101, 102, "never written")]

    with pytest.raises(Undecided):
        check(Register(), history, budget=1_000)


def by_brute_force(history: list[Operation]) -> bool:
    """Try every order of every subset that has all operations that returned."""
    known = [op for op in history if op.ret is not None]
    unknown = [op for op in history if op.ret is None]
    for mask in range(1 << len(unknown)):
        chosen = known + [op for bit, op in enumerate(unknown) if mask >> bit & 1]
        for order in permutations(chosen):
            in_time = all(
                later.ret is None or later.ret >= earlier.call
                for i, earlier in enumerate(order)
                for later in order[i + 1 :]
            )
            if in_time and explained(order):
                return True
    return False


def explained(order: tuple[Operation, ...]) -> bool:
    state: Any = Register().initial()
    for op in order:
        state = Register().step(state, op.input, op.output, known=op.ret is not None)
        if state is None:
            return False
    return True


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation]:
    times = draw(st.permutations(range(10)))
    history = []
    for index in range(draw(st.integers(1, 5))):
        call, ret = sorted(times[2 * index : 2 * index + 2])
        unknown = draw(st.booleans()) and draw(st.booleans())
        kind = draw(st.sampled_from(["read", "write", "cas"]))
        value = draw(st.sampled_from("ab"))
        output: Any = None
        argument: Any = value
        if kind == "read":
            argument, output = None, draw(st.sampled_from(["nothing", "a", "b"]))
        elif kind == "cas":
            argument, output = (value, draw(st.sampled_from("ab"))), draw(st.booleans())
        history.append(Operation(call, None if unknown else ret, (kind, argument), output))
    return history


@given(small_histories())
def test_the_verdict_on_a_small_history_is_that_of_trying_everything(history: list[Operation]) -> None:
    assert check(Register(), history).ok == by_brute_force(history)


def verdicts() -> dict[str, bool]:
    return json.loads((FOLDER / "porcupine/verdicts.json").read_text()) if FOLDER else {"missing": True}


@needs_histories
@pytest.mark.parametrize("name", [name for name in verdicts() if name.startswith("jepsen")] or ["missing"])
def test_a_history_of_etcd_has_the_verdict_that_is_known(name: str) -> None:
    assert FOLDER is not None
    history = histories.etcd(FOLDER / "porcupine/test_data" / name)

    assert len(history) > 50
    assert check(Register(), history).ok == verdicts()[name]


@needs_histories
@pytest.mark.parametrize("name", [name for name in verdicts() if name.startswith("kv")] or ["missing"])
def test_a_history_of_a_key_value_store_has_the_verdict_that_is_known(name: str) -> None:
    assert FOLDER is not None
    history = histories.texts(FOLDER / "porcupine/test_data" / name)
    parts = by_object(history, lambda op: op.input[0])

    assert len(history) >= 30
    parts = {name: [op._replace(input=op.input[1:]) for op in part] for name, part in parts.items()}
    found = [verdict.ok for verdict in check_each(AppendedText(), parts).values()]
    assert all(found) == verdicts()[name]


KNOSSOS = {
    "knossos/cas-register/bad/rethink-fail.edn": (Register, False),
    "knossos/cas-register/bad/rethink-fail-smaller.edn": (Register, False),
    "knossos/cas-register/bad/rethink-fail-minimal.edn": (Register, False),
    "knossos/cas-register/bad/mongodb-v0-ack-rollback-6.edn": (Register, False),
    "knossos/cas-register/bad/cas-failure.edn": (Register, False),
    "knossos/cas-register/bad/bad-analysis.edn": (Register, False),
    "knossos/cas-register/good/memstress3-9.edn": (Register, True),
    "knossos/cas-register/good/memstress3-9.json": (Register, True),
    "knossos/mutex/bad/etcd.edn": (Mutex, False),
    "knossos/mutex/bad/etcd.json": (Mutex, False),
    "jepsen/counter.json": (Counter, True),
    "jepsen/set.edn": (Summing, True),
}


@needs_histories
@pytest.mark.parametrize("name", KNOSSOS)
def test_a_history_of_elle_cli_has_the_verdict_that_is_known(name: str) -> None:
    assert FOLDER is not None
    model, expected = KNOSSOS[name]
    history = histories.operations(histories.events(FOLDER / "elle-cli/histories" / name))

    assert history
    assert check(model(), [_prepared(op, model) for op in history]).ok == expected


@needs_histories
@pytest.mark.parametrize("name", ["jepsen/bank-neg.edn", "jepsen/bank-negative-balances.json"])
def test_balances_that_no_transfer_explains_are_found(name: str) -> None:
    assert FOLDER is not None
    history = histories.operations(histories.events(FOLDER / "elle-cli/histories" / name))
    first = {str(account): amount for account, amount in history[0].output.items()}
    history = [op._replace(output={str(k): v for k, v in op.output.items()}) for op in history]

    expected = len(history) == 1  # bank-neg has one read and nothing else
    assert check(Accounts(first), history).ok == expected


def _prepared(op: Operation, model: type) -> Operation:
    if model is Mutex:
        return op._replace(input=op.input[0])
    if model is Register:
        if op.input[0] == "read":
            # Knossos: a read of nil tells nothing.
            return op._replace(ret=None) if op.output is None else op
        if op.input[0] == "cas":
            return op._replace(output=True)
    return op
