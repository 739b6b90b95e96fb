"""The simulation's own random numbers: known values, ranges, independence."""

from __future__ import annotations

from veritydb.simulation.chance import Chance


def test_the_numbers_are_those_of_splitmix64() -> None:
    """The first of seed 1234567, as published with the reference implementation."""
    chance = Chance(1234567)

    assert [chance.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_between_gives_both_ends_and_nothing_else() -> None:
    chance = Chance(1)

    assert {chance.between(3, 5) for _ in range(200)} == {3, 4, 5}


def test_what_never_happens_draws_nothing() -> None:
    chance = Chance(7)
    chance.happens(0)

    assert chance.bits() == Chance(7).bits()


def test_a_stream_split_off_does_not_move_the_one_it_came_from() -> None:
    chance = Chance(9)
    chance.split("network").bits()

    assert chance.bits() == Chance(9).bits()


def test_streams_of_different_names_differ() -> None:
    chance = Chance(9)

    assert len({chance.split(name).bits() for name in ("disk 0", "disk 1", "network", "clients")}) == 4


def test_a_heavy_tail_is_mostly_short_and_sometimes_very_long() -> None:
    chance = Chance(3)
    drawn = sorted(chance.heavy(10, 100) for _ in range(10_000))

    assert drawn[0] >= 10
    assert drawn[5_000] < 310
    assert drawn[-1] > 5_000
    assert drawn[-1] <= 10 + 100 * 1024


def test_a_shuffle_keeps_what_it_shuffles() -> None:
    items = list(range(20))
    Chance(4).shuffle(items)

    assert items != list(range(20))
    assert sorted(items) == list(range(20))
