"""What all real servers share: a free port, a start that waits until it is ready, a log, and ways to hurt it."""

import abc
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import SystemRandom
from typing import Self, TypeVar

import requests

# below the range from which the kernel takes ports for connections, so that a stopped server gets its own port back
_PORTS = range(20_000, 32_000)
_POLL_S = 0.02
_LOG_TAIL_LINES = 20
T = TypeVar("T")


class StartFailed(Exception):  # noqa: N818 - read by a person after the server's name
    """A server ended or stayed unready; the message holds the end of its log."""


def wait_until(question: Callable[[], T], *, deadline_s: float, what: str) -> T:
    """Ask again and again until the answer is true, and return it.

    Errors of the network count as not yet. Raises TimeoutError after deadline_s seconds, naming what was waited for.
    """
    end = time.monotonic() + deadline_s
    last: object = None
    while True:
        try:
            answer = question()
            if answer:
                return answer
            last = answer
        except (OSError, requests.RequestException) as error:
            last = error
        if time.monotonic() >= end:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}; the last answer was {last!r}")
        time.sleep(_POLL_S)


class Server(abc.ABC):
    """A real server as a child process on 127.0.0.1: `with Prometheus(folder) as prometheus: ...`.

    It keeps its port and its folder over stop() and start(), so that a test can produce outages. Not thread-safe, but
    each method may be called from any thread. Files and the log (`log`) lie in `folder`.
    """

    name: str = "server"
    ready_within_s: float = 120.0
    stops_within_s: float = 10.0

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port() if port is None else port
        self.log = folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's own process; raises RuntimeError while it is stopped."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is stopped; call start() first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives, paused or not."""
        return self._process is not None and self._process.poll() is None

    @abc.abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments; called at each start. Raises PartMissing."""

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """One question, answered at once; errors of the network count as no."""

    def start(self) -> Self:
        """Start it and wait until it is ready. Raises StartFailed, with the end of the log, and PartMissing."""
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        """Start it and do not wait; does nothing while it runs. Raises PartMissing."""
        if self.running:
            return
        command = self.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; the servers end in order
            )
        _REAPER.watch(self._process.pid)
        self._paused = False

    def wait_ready(self) -> None:
        """Wait until is_ready(). Raises StartFailed, with the end of the log."""

        def ready_or_dead() -> bool:
            if not self.running:
                raise StartFailed(f"{self.name} ended at its start (exit code {self._code()}):\n{self.log_tail()}")
            return self.is_ready()

        try:
            wait_until(ready_or_dead, deadline_s=self.ready_within_s, what=f"{self.name} to be ready")
        except TimeoutError as error:
            self.kill9()
            raise StartFailed(f"{error}:\n{self.log_tail()}") from error
        except StartFailed:
            self._gone()
            raise

    def stop(self) -> None:
        """End it in order (SIGTERM), after a while by force; port and data stay for the next start()."""
        process = self._process
        if process is None:
            return
        self.resume()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(self.stops_within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._gone()

    def kill9(self) -> None:
        """End it without a chance to say goodbye (SIGKILL)."""
        process = self._process
        if process is None:
            return
        process.kill()
        process.wait()
        self._gone()

    def restart(self) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections are taken by the kernel and nothing answers."""
        self._signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let it go on after pause(); harmless otherwise."""
        if self._paused and self.running:
            self._signal(signal.SIGCONT)
        self._paused = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Frozen inside the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Down inside the block, ready again after it."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def log_tail(self) -> str:
        """The last lines of the log, indented."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = text.splitlines()[-_LOG_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (its log is empty)"

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.__exit__()  # no `with` will end what had started
            raise

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        if not self.running:
            raise RuntimeError(f"{self.name} is stopped; call start() first")
        assert self._process is not None
        self._process.send_signal(number)

    def _code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def _gone(self) -> None:
        if self._process is not None:
            _REAPER.forget(self._process.pid)
        self._process = None
        self._paused = False


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that this process has not been given before."""
    with _PORTS_LOCK:
        for port in SystemRandom().sample(_PORTS, k=200):
            if port in _GIVEN:
                continue
            with socket.socket() as probe:
                # as servers do: what a dead one left in TIME_WAIT is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            _GIVEN.add(port)
            return port
    raise RuntimeError(f"no free port between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1; end some servers")


def http() -> requests.Session:
    """A session that goes straight to 127.0.0.1, whatever proxy the environment names."""
    session = requests.Session()
    session.trust_env = False
    return session


class _Reaper:
    """One small process beside ours that ends our servers when we die without a word (kill -9, a crash)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, pid: int) -> None:
        self._say(f"+{pid}")

    def forget(self, pid: int) -> None:
        self._say(f"-{pid}")

    def _say(self, line: str) -> None:
        with self._lock:
            if self._process is None:
                program = Path(__file__).with_name("reaper.py")
                self._process = subprocess.Popen(
                    [sys.executable, "-S", "-E", str(program)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
                )
            said = self._process.stdin
            assert said is not None
            with contextlib.suppress(BrokenPipeError):
                said.write(f"{line}\n".encode())
                said.flush()


_GIVEN: set[int] = set()
_PORTS_LOCK = threading.Lock()
_REAPER = _Reaper()
