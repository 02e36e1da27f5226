"""The rules of the lead in virtual time: never two who may write, and always somebody again; each rule is needed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import AdapterError, RefusedError, UnansweredError
from controller.leader import FOR_GOOD, Answer, Create, Elector, Read, Request, Times, Turn, Write
from controller.ports import Lease
from tests.virtual.election import Election, Store, play

SEEDS = 400
"""How many random stories a mutant may survive at most."""


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), rough=st.sampled_from([0.0, 0.2, 0.6]))
def test_never_do_two_write_whatever_happens(seed: int, rough: float) -> None:
    election = play(seed, rough=rough)
    assert election.both == []


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_somebody_leads_again_once_the_trouble_is_over(seed: int) -> None:
    election = play(seed, seconds=120.0)
    election.run(170.0)  # what the network still holds arrives
    election.network.rough = 0.0
    election.run(200.0)
    assert len(election.leaders()) == 1
    before = len(election.led)
    election.run(300.0)
    assert len(election.led) == before


def test_the_stories_are_told_of_many_leaders() -> None:
    changes = [len(play(seed).led) for seed in range(20)]
    assert sum(changes) > 60


# A process that breaks one rule


class NoDeadline(Elector):
    """Leads until it reads of another."""

    def check(self) -> str:
        return self.lost

    def may_write(self) -> bool:
        return self._leading and not self.lost


class FromTheAnswer(Elector):
    """Counts the deadline from the answer, and believes one that comes late."""

    def _got(self, sent: float) -> None:
        if not self._over and not self.check():
            self._until, self._leading = self._clock() + 2 * self.times.deadline, True


class LateAnswersCount(Elector):
    """Leads from an answer on, whenever the question was sent."""

    def _got(self, sent: float) -> None:
        super()._got(self._clock())


class TakesWhatIsEmpty(Elector):
    """Takes a Lease without a holder at once, whoever emptied it."""

    def _free(self, lease: Lease) -> bool:
        return not lease.holder or super()._free(lease)


class TakesItsOwnName(Elector):
    """Believes a Lease that names it, whoever wrote that."""

    def _free(self, lease: Lease) -> bool:
        return lease.holder == self.identity or super()._free(lease)


class CountsFromTheFirstSight(Elector):
    """Counts from when it first saw any Lease, and not from the last change."""

    def _heard(self, answer: Answer) -> Lease | None:
        known, since = self._known, self._seen_at
        heard = super()._heard(answer)
        if known is not None:
            self._seen_at = since
        return heard


class Impatient(Elector):
    """Waits for less than what the other has."""

    def _free(self, lease: Lease) -> bool:
        return lease.released or self._clock() - self._seen_at >= self.times.deadline / 2


class WritesWhileItLeaves(Elector):
    """Writes until it hears that the Lease was given back."""

    def release(self) -> Turn:
        if self._leading and self._known is not None:
            yield Write(self._known, "", self._known.transitions)
        self._over, self._leading = True, False


class GoesBySight(Elector):
    """Takes the version that it reads last, and not the one that it has watched: no compare-and-swap."""

    def _take(self, known: Lease) -> Any:
        answer = yield Read()
        if isinstance(answer, Lease):
            known = replace(known, version=answer.version)
        return (yield from super()._take(known))


class CreatingIsHaving(Elector):
    """Leads where there was no Lease."""

    def _look(self) -> Turn:
        answer = yield Read()
        if answer is None:
            answer = yield Create()
            if isinstance(answer, Lease):
                yield from self._take(answer)
                return
        heard = self._heard(answer)
        if heard is not None and self._free(heard):
            yield from self._take(heard)


MUTANTS: list[type[Elector]] = [
    NoDeadline,
    FromTheAnswer,
    LateAnswersCount,
    TakesWhatIsEmpty,
    TakesItsOwnName,
    CountsFromTheFirstSight,
    Impatient,
    WritesWhileItLeaves,
    GoesBySight,
    CreatingIsHaving,
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_rule_is_needed(mutant: type[Elector]) -> None:
    """Two write at once where one rule is left out."""
    assert any(play(seed, mutant, rough=rough).both for seed in range(SEEDS) for rough in (0.2, 0.6))


class Sleeper:
    """A machine that sleeps: its clock is asked through a function that leaves the sleep out."""

    def __init__(self, election: Election) -> None:
        self.election, self.slept = election, 0.0

    def __call__(self) -> float:
        return self.election.now - self.slept


@pytest.mark.parametrize("counts", [True, False])
def test_a_clock_that_does_not_count_suspended_time_makes_two_writers(*, counts: bool) -> None:
    election = Election(random.Random(1), rough=0.0)
    clock = Sleeper(election)
    elector = Elector("sleeper", clock)
    store = election.store
    store.ask(Create())
    _turn(elector, store)
    election.run(11.0)
    _turn(elector, store)
    assert elector.may_write()
    election.run(31.0)
    if not counts:
        clock.slept = 20.0
    assert elector.may_write() is not counts


# Single rules, one at a time


def _turn(
    elector: Elector, store: Store, answer: Callable[[Request], Answer] | None = None, turn: Turn | None = None
) -> list[Request]:
    """One turn against the store: what was asked."""
    asked: list[Request] = []
    turn = turn or elector.turn()
    try:
        request = next(turn)
        while True:
            asked.append(request)
            request = turn.send((answer or store.ask)(request))
    except StopIteration:
        return asked


class Hand:
    """A clock moved by hand."""

    at = 1000.0

    def __call__(self) -> float:
        return self.at


def _leading(clock: Hand, store: Store, identity: str = "a") -> Elector:
    elector = Elector(identity, clock)
    store.put(holder="", released=True)
    _turn(elector, store)
    assert elector.leading
    return elector


def test_what_was_given_back_is_taken_at_once_and_counted() -> None:
    clock, store = Hand(), Store()
    _leading(clock, store)
    assert store.lease is not None
    assert (store.lease.holder, store.lease.transitions, store.lease.released) == ("a", 1, False)


def test_the_first_lease_of_all_is_waited_for_as_any_other() -> None:
    clock, store = Hand(), Store()
    elector = Elector("a", clock)
    assert [type(request) for request in _turn(elector, store)] == [Read, Create]
    clock.at += 9.99
    assert [type(request) for request in _turn(elector, store)] == [Read]
    clock.at += 0.02
    assert [type(request) for request in _turn(elector, store)] == [Read, Write]
    assert elector.leading


def test_a_renewal_counts_from_when_it_was_sent_and_writes_end_one_request_before_the_deadline() -> None:
    clock, store = Hand(), Store()
    elector = _leading(clock, store)

    def slowly(request: Request) -> Answer:
        clock.at += 1.4
        return store.ask(request)

    clock.at += 1.0
    _turn(elector, store, slowly)  # sent at 1001
    clock.at = 1001 + 5 - 1.5
    assert elector.may_write()
    clock.at += 0.001
    assert not elector.may_write()
    assert elector.leading
    assert elector.check() == ""
    clock.at = 1006.001
    assert not elector.leading
    assert elector.check() == "no renewal of the Lease went well for 5s"
    assert _turn(elector, store) == []


def test_an_answer_that_comes_after_the_deadline_brings_nobody_back() -> None:
    clock, store = Hand(), Store()
    elector = _leading(clock, store)

    def late(request: Request) -> Answer:
        answer = store.ask(request)
        clock.at += 5.1
        return answer

    _turn(elector, store, late)
    assert elector.lost
    assert not elector.may_write()


def test_a_lease_that_is_read_as_anothers_ends_the_lead_at_once() -> None:
    clock, store = Hand(), Store()
    elector = _leading(clock, store)
    store.put(holder="ada")
    clock.at += 1
    _turn(elector, store)
    assert elector.lost == "the Lease is held by ada"
    assert not elector.may_write()


@pytest.mark.parametrize("by_hand", ["removed", "emptied", "annotated"])
def test_a_leader_takes_back_what_nobody_else_took(by_hand: str) -> None:
    clock, store = Hand(), Store()
    elector = _leading(clock, store)
    if by_hand == "removed":
        store.remove()
    else:
        store.put(**({"holder": "", "released": False} if by_hand == "emptied" else {}))
    clock.at += 1
    _turn(elector, store)
    assert elector.leading
    clock.at += 4.9
    assert elector.leading
    assert store.lease is not None
    assert store.lease.holder == "a"


def test_a_renewal_whose_answer_was_lost_is_found_again() -> None:
    clock, store = Hand(), Store()
    elector = _leading(clock, store)

    def lost(request: Request) -> Answer:
        store.ask(request)
        return UnansweredError("lost")

    clock.at += 1
    _turn(elector, store, lost)
    assert elector.problem == "lost"
    clock.at += 1
    assert [type(request) for request in _turn(elector, store)] == [Write, Read, Write]
    clock.at += 4.9
    assert elector.leading
    assert elector.problem == ""


def test_a_lease_that_was_taken_although_the_answer_was_lost_is_waited_for_like_anothers() -> None:
    clock, store = Hand(), Store()
    store.put(holder="", released=True)
    elector = Elector("a", clock)

    def lost(request: Request) -> Answer:
        answer = store.ask(request)
        return UnansweredError("lost") if isinstance(request, Write) else answer

    _turn(elector, store, lost)
    clock.at += 1
    _turn(elector, store)
    clock.at += 9.9
    _turn(elector, store)
    assert not elector.leading
    clock.at += 0.2
    _turn(elector, store)
    assert elector.leading
    assert store.lease is not None
    assert store.lease.transitions == 1


@pytest.mark.parametrize("answer", [RefusedError("forbidden"), UnansweredError("away")])
def test_who_cannot_read_the_lease_says_why_and_does_not_lead(answer: AdapterError) -> None:
    elector = Elector("a", Hand())
    _turn(elector, Store(), lambda _: answer)
    assert not elector.leading
    assert elector.problem == str(answer)
    assert elector.follows == ""


def test_a_release_ends_the_writes_before_it_is_sent() -> None:
    clock, store = Hand(), Store()
    elector = _leading(clock, store)
    turn = elector.release()
    request = next(turn)
    assert not elector.may_write()
    assert not elector.leading
    assert isinstance(store.ask(request), Lease)
    assert store.lease is not None
    assert store.lease.released
    assert _turn(elector, store) == []


def test_a_release_finds_a_renewal_whose_answer_was_lost() -> None:
    clock, store = Hand(), Store()
    elector = _leading(clock, store)
    _turn(elector, store, lambda request: (store.ask(request), UnansweredError("lost"))[1])
    asked = _turn(elector, store, turn=elector.release())
    assert [type(request) for request in asked] == [Write, Read, Write]
    assert store.lease is not None
    assert store.lease.released


def test_who_follows_gives_nothing_back() -> None:
    elector = Elector("a", Hand())
    assert list(elector.release()) == []


def test_times_that_would_let_two_write_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a lease of 7s is too short; write 7\.5s or more"):
        Times(lease=7.0)
    assert Times(lease=7.5).lease == 7.5


def test_where_the_system_frees_the_lock_nothing_runs_out() -> None:
    clock, store = Hand(), Store()
    store.put(holder="", released=True)
    elector = Elector("a", clock, FOR_GOOD)
    _turn(elector, store)
    other = Elector("b", clock, FOR_GOOD)
    clock.at += 1e9
    _turn(other, store)
    assert elector.may_write()
    assert not other.leading
    assert other.follows == "a"
