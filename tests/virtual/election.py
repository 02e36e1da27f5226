"""Electors in virtual time: one versioned store, a network that delays and loses, processes that stop, and people.

Every process has a clock of its own that starts anywhere and runs a little too fast or too slow. The network may hold a
request for as long as it likes after its sender has given up.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

from controller.errors import ConflictError, NotFoundError, UnansweredError
from controller.leader import Answer, Create, Elector, Read, Request, Times, Turn, Write
from controller.ports import Lease

DRIFT = 0.01
"""By how much of a second in a second a process' clock may be wrong."""


class Store:
    """The Lease as an API server keeps it: each write makes a version that never was before."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self._versions = count(1)

    def put(self, **fields: object) -> Lease:
        """Store these fields over what is there."""
        known = self.lease or Lease("")
        self.lease = replace(known, version=str(next(self._versions)), **fields)  # type: ignore[arg-type]
        return self.lease

    def remove(self) -> None:
        """By hand."""
        self.lease = None

    def anew(self) -> None:
        """Removed and made again by hand, before anybody looked."""
        self.lease = None
        self.ask(Create())

    def ask(self, request: Request) -> Answer:
        """What the server does and answers."""
        if isinstance(request, Read):
            return self.lease
        if isinstance(request, Create):
            return ConflictError("there is one") if self.lease else self.put(holder="", transitions=0, released=False)
        if self.lease is None:
            return NotFoundError("there is none")
        if self.lease.version != request.known.version:
            return ConflictError("it is another version")
        return self.put(holder=request.holder, transitions=request.transitions, released=not request.holder)


@dataclass
class Process:
    """One controller: its elector, the turn it is at, and whether it stands still."""

    elector: Elector
    turn: Turn | None = None
    waits_for: int = 0
    stopped_until: float = 0.0
    alive: bool = True
    releasing: bool = False


@dataclass
class Network:
    """Seconds that a request takes to the server and its answer back; a lost one never arrives."""

    dice: random.Random
    rough: float = 0.2
    held: float = 40.0

    def delay(self) -> float | None:
        """For one way."""
        roll = self.dice.random()
        if roll >= self.rough:
            return self.dice.uniform(0.001, 0.1)
        if roll < self.rough / 4:
            return None
        return self.dice.uniform(0.1, 3.0) if roll < self.rough * 0.8 else self.dice.uniform(3.0, self.held)


MakeElector = Callable[[str, Callable[[], float], Times], Elector]


@dataclass
class Election:
    """So many processes and one Lease. ``run`` plays it; ``both`` is what must stay empty."""

    dice: random.Random
    make: MakeElector = Elector
    store: Store = field(default_factory=Store)
    times: Times = field(default_factory=Times)
    now: float = 0.0
    rough: float = 0.2
    processes: list[Process] = field(default_factory=list)
    both: list[str] = field(default_factory=list)
    led: list[tuple[float, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._questions = count(1)
        self._names = count()
        self.network = Network(self.dice, self.rough)

    def at(self, when: float, act: Callable[[], object]) -> None:
        """Do this then."""
        heapq.heappush(self._events, (when, next(self._order), act))

    def join(self) -> Process:
        """A new process starts."""
        offset, rate = self.dice.uniform(0, 1e6), 1 + self.dice.uniform(-DRIFT, DRIFT)
        name = f"p{next(self._names)}"
        process = Process(self.make(name, lambda: offset + rate * self.now, self.times))
        self.processes.append(process)
        self._begin(process)
        return process

    def crash(self, process: Process) -> None:
        """End at once, and another one starts a little later."""
        process.alive = False
        self.at(self.now + self.dice.uniform(0.1, 5.0), self.join)

    def stop(self, process: Process, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds; the machine may be asleep as well."""
        process.stopped_until = max(process.stopped_until, self.now + seconds)

    def leave(self, process: Process) -> None:
        """A clean stop, once the turn is over, and another one starts."""
        process.releasing = True
        self.at(self.now + self.dice.uniform(0.1, 5.0), self.join)

    def leaders(self) -> list[str]:
        """Who would write now."""
        return [one.elector.identity for one in self.processes if one.alive and one.elector.may_write()]

    def run(self, until: float) -> None:
        """Let time pass to that instant."""
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            act()
            leaders = self.leaders()
            if len(leaders) > 1 and not self.both:
                self.both.append(f"at {self.now:.3f} {' and '.join(leaders)} may write, after {self.said[-5:]}")
            if leaders and (not self.led or self.led[-1][1] != leaders[0]):
                self.led.append((self.now, leaders[0]))
        self.now = until

    # What a process does: nothing while it stands still.

    def _soon(self, process: Process, act: Callable[[], None]) -> None:
        """As soon as the process runs."""
        if not process.alive:
            return
        if process.stopped_until > self.now:
            self.at(process.stopped_until + self.dice.uniform(0, 0.01), lambda: self._soon(process, act))
        else:
            act()

    def _begin(self, process: Process) -> None:
        if process.elector.check():
            process.alive = False  # the watchdog
            self.at(self.now + 1.0, self.join)
            return
        process.turn = process.elector.release() if process.releasing else process.elector.turn()
        self._go_on(process, next)

    def _go_on(self, process: Process, step: Callable[[Turn], Request]) -> None:
        assert process.turn is not None
        try:
            request = step(process.turn)
        except StopIteration:
            if process.releasing and process.elector._over:
                process.alive = False
                return
            pause = self.times.retry * self.dice.uniform(0.9, 1.0)
            self.at(self.now + pause, lambda: self._soon(process, lambda: self._begin(process)))
            return
        self._send(process, request)

    def _send(self, process: Process, request: Request) -> None:
        question = process.waits_for = next(self._questions)

        def answered(answer: Answer) -> None:
            if process.waits_for == question:
                process.waits_for = 0
                self._go_on(process, lambda turn: turn.send(answer))

        def arrive() -> None:
            answer = self.store.ask(request)
            back = self.network.delay()
            if isinstance(request, Write):
                self.said.append(f"{self.now:.2f} {request.holder or 'release'}: {type(answer).__name__}")
            if back is not None:
                self.at(self.now + back, lambda: self._soon(process, lambda: answered(answer)))

        late = UnansweredError("no answer in time")
        self.at(self.now + self.times.request, lambda: self._soon(process, lambda: answered(late)))
        there = self.network.delay()
        if there is not None:
            self.at(self.now + there, arrive)


def trouble(election: Election, until: float, *, each: float = 6.0, hands: bool = True) -> None:
    """Faults at random moments: crashes, stops, leaving, and people who edit the Lease."""
    dice, store = election.dice, election.store

    def strike() -> None:
        alive = [one for one in election.processes if one.alive and not one.releasing]
        one = dice.choice(alive) if alive else None
        leading = [each for each in alive if each.elector.leading]
        if leading and dice.random() < 0.6:
            one = leading[0]
        others = [each.elector.identity for each in alive if each is not one] or ["nobody"]
        by_hand: list[tuple[str, Callable[[], object]]] = [
            ("removed", store.remove),
            ("emptied", lambda: store.put(holder="", released=False)),
            ("given to a person", lambda: store.put(holder="ada")),
            ("given to another", lambda: store.put(holder=dice.choice(others))),
            ("annotated", store.put),
            ("removed and made again", store.anew),
        ]
        acts: list[tuple[str, Callable[[], object]]] = []
        if one is not None:
            acts += [
                (f"{one.elector.identity} killed", lambda: election.crash(one)),
                (f"{one.elector.identity} stopped", lambda: election.stop(one, dice.uniform(0.5, 25.0))),
                (f"{one.elector.identity} leaves", lambda: election.leave(one)),
            ]
        if hands and (not acts or dice.random() < 0.5):
            acts = by_hand
        what, act = dice.choice(acts or [("nothing", lambda: None)])
        election.said.append(f"{election.now:.2f} {what}")
        act()
        following = election.now + dice.expovariate(1 / each)
        if following < until:
            election.at(following, strike)

    election.at(dice.uniform(0, 20), strike)


def play(seed: int, make: MakeElector = Elector, *, seconds: float = 300.0, rough: float = 0.2) -> Election:
    """Two or three processes for so long, with trouble of every kind."""
    dice = random.Random(seed)
    election = Election(dice, make, rough=rough)
    for _ in range(dice.choice((2, 3))):
        election.at(dice.uniform(0, 3), election.join)
    trouble(election, seconds, each=dice.choice((3.0, 8.0, 20.0)))
    election.run(seconds)
    return election
