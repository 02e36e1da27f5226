"""Two controllers, one of which writes: whatever happens to the one, the other takes over in time, and never before.

All of them wait more than they work, so they run side by side; each test looks at the end of its own.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.adapters.faulty_proxy import Exchange, call, hold
from tests.launch.replicas import EXIT_LOST, Pair, build_shim, pair
from tests.launch.stage import Ground
from tests.realparts.kube import KubeApiserver
from tests.realparts.server import wait_until

SIDE_BY_SIDE = 3
TAKES_OVER_S = 15.0
"""From the death of the leader to the first decision of the next."""
CLEANLY_S = 2.0
LEASE_S, DEADLINE_S = 10.0, 5.0
BUSY_S = 1.5
"""What a machine that runs six controllers at once may take on top."""
pytestmark = pytest.mark.xdist_group("failover")


def _killed(both: Pair) -> None:
    both.decides(both.leader, "one")
    killed = time.monotonic()
    both.leader.daemon.kill9()
    decided = both.decides(both.follower, "two")
    assert decided - killed <= TAKES_OVER_S + BUSY_S
    assert both.lease()["leaseTransitions"] == 2
    assert both.wrong("one", "two") == []


def _stopped_cleanly(both: Pair) -> None:
    both.decides(both.leader, "one")
    asked = time.monotonic()
    both.leader.signal(signal.SIGTERM)
    taken = both.held_by(both.follower, 30)
    assert both.leader.ended(30) == 0
    assert taken - asked <= CLEANLY_S + BUSY_S
    both.decides(both.follower, "two")
    assert both.wrong("one", "two") == []


def _frozen_and_thawed(both: Pair) -> None:
    both.decides(both.leader, "one")
    both.leader.signal(signal.SIGSTOP)
    frozen = time.monotonic()
    decided = both.decides(both.follower, "two")
    assert LEASE_S - 2.0 < decided - frozen <= TAKES_OVER_S + BUSY_S
    both.on.annotate("one", hold="look into it")  # something to do for whoever thinks that it leads
    both.leader.signal(signal.SIGCONT)
    assert both.leader.ended(10) == EXIT_LOST
    both.on.observer.wait_for_state("one", "Held", seconds=30)
    assert both.wrong("one", "two") == []


def _cut_off(both: Pair) -> None:
    both.decides(both.leader, "one")
    released = threading.Event()
    cut = time.monotonic()
    both.leader.strike(lambda: both.leader.proxy.when("*", "", hold(released)))
    assert both.leader.ended(DEADLINE_S + 2.0 + BUSY_S) == EXIT_LOST
    assert time.monotonic() - cut >= DEADLINE_S - 2.0 - BUSY_S
    assert "no renewal of the Lease went well for 5s" in both.leader.daemon.tail()
    assert both.decides(both.follower, "two") - cut <= TAKES_OVER_S + BUSY_S
    released.set()
    assert both.wrong("one", "two") == []


def _edited(both: Pair) -> None:
    both.decides(both.leader, "one")
    for edit in (both.remove, lambda: both.edit(holderIdentity=""), lambda: both.edit(holderIdentity=None)):
        edit()
        both.held_by(both.leader, 5)
    assert both.leader.leads()
    assert both.follower.wrote == []
    both.edit(holderIdentity="ada")
    handed = time.monotonic()
    assert both.leader.ended(3.0 + BUSY_S) == EXIT_LOST
    assert "the Lease is held by ada" in both.leader.daemon.tail()
    decided = both.decides(both.follower, "two")
    assert LEASE_S <= decided - handed <= TAKES_OVER_S + BUSY_S
    assert both.wrong("one", "two") == []


def _wall_clocks_jump(both: Pair) -> None:
    both.decides(both.leader, "one")
    for replica, seconds in ((both.leader, -3600), (both.follower, 3600), (both.leader, 3600), (both.follower, -3600)):
        replica.offset.write_text(str(seconds))
        with pytest.raises(TimeoutError):
            wait_until(lambda: not both.leader.leads() or both.follower.leads(), deadline_s=6.0, what="another")
    assert both.follower.wrote == []
    killed = time.monotonic()
    both.leader.daemon.kill9()
    assert both.held_by(both.follower, TAKES_OVER_S + BUSY_S) - killed >= LEASE_S - 2.0
    assert len(both.follower.proxy.exchanges) > 0


def _held_for_twice_the_lease(both: Pair) -> None:
    released, came = threading.Event(), threading.Event()
    held: list[Exchange] = []

    def keep(exchange: Exchange) -> None:
        if exchange.query.get("dryRun") is None:
            held.append(exchange)
            came.set()
            released.wait(60)

    both.leader.strike(lambda: both.leader.proxy.when("PATCH", "httproutes", call(before=keep)))
    both.on.traffic.shop("one").per_second = 400.0  # a step is proven good well before it counts as undecided
    both.on.create("one", steps=({"weight": 20, "for": "2s"}, {"weight": 100}))
    assert came.wait(60)
    since = time.monotonic()
    both.leader.daemon.kill9()
    both.on.observer.wait_for_state("one", "Succeeded", seconds=90)
    weights = both.on.observer.weights("one")
    while time.monotonic() - since < 2 * LEASE_S:
        both.on.observer.stays("one", 1000, seconds=1.0)
    released.set()
    wait_until(lambda: held[0].status, deadline_s=10, what="the raise to be answered")
    assert held[0].status in (409, 422)
    both.on.observer.stays("one", 1000, seconds=2.0)
    assert both.on.observer.weights("one") == weights == [0, 200, 1000]
    assert both.wrong("one") == []


PLAYS: Mapping[str, Callable[[Pair], None]] = {
    "killed": _killed,
    "stopped cleanly": _stopped_cleanly,
    "frozen and thawed": _frozen_and_thawed,
    "cut off from the API server": _cut_off,
    "Lease edited by hand": _edited,
    "wall clocks jump": _wall_clocks_jump,
    "raise held for twice the lease": _held_for_twice_the_lease,
}


@pytest.fixture(scope="module")
def played(
    kube: KubeApiserver, ground: Ground, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Mapping[str, Future[None]]]:
    """Those that were asked for, side by side."""
    folder = tmp_path_factory.mktemp("failover")
    asked = {item.callspec.params["what"] for item in request.session.items if hasattr(item, "callspec")
             and "played" in getattr(item, "fixturenames", ())}  # fmt: skip

    def one(what: str) -> None:
        jump = what == "wall clocks jump"
        shim = build_shim(folder) if jump else None
        with pair(kube, ground, folder / what.replace(" ", "-"), shim=shim) as both:
            PLAYS[what](both)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {what: pool.submit(one, what) for what in PLAYS if what in asked}


@pytest.mark.parametrize("what", PLAYS)
def test_one_writes_and_the_other_takes_over_when_the_leader_is(played: Mapping[str, Future[None]], what: str) -> None:
    played[what].result()
