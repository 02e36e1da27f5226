"""The two versions of the shop, in one process: `python -m demo.services STABLE_PORT CANARY_PORT`.

Both answer within milliseconds and fail once in 2,000 requests, as good services do. `PUT /-/failing/0.2` on a version's
own port makes a fifth of its answers fail from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys

USUAL_FAILING = 0.0005
QUICKEST_S, SLOWEST_S = 0.002, 0.008
_CONTROL = "/-/failing/"


class Service:
    """One version: its name and the share of its answers that fail."""

    def __init__(self, track: str, seed: int) -> None:
        self._track = track
        self._failing = USUAL_FAILING
        self._random = random.Random(seed)

    async def serve(self, port: int) -> None:
        """Answer on 127.0.0.1 until the process ends."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError),
            contextlib.closing(writer),
        ):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
                if method == "PUT" and path.startswith(_CONTROL):
                    self._failing = float(path.removeprefix(_CONTROL))
                    status, body = "200 OK", f"failing {self._failing:g}\n"
                elif path == "/-/ready":
                    status, body = "200 OK", "ready\n"
                else:
                    await asyncio.sleep(self._random.uniform(QUICKEST_S, SLOWEST_S))
                    failed = self._random.random() < self._failing
                    status, body = ("500 Internal Server Error", "failed\n") if failed else ("200 OK", "served\n")
                answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nX-Track: {self._track}\r\n\r\n{body}"
                writer.write(answer.encode())
                await writer.drain()


async def _main(stable_port: int, canary_port: int) -> None:
    await asyncio.gather(Service("stable", 1).serve(stable_port), Service("canary", 2).serve(canary_port))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
