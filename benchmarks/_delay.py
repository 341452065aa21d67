"""A proxy on loopback that delays each request, for S3 servers that are farther away than loopback.

A request is what a client sends after it connected or received an answer. Its first bytes wait, so
that every round trip takes longer by the delay, and the bandwidth stays as it is.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 1 << 16


class DelayingProxy:
    """Forwards the connections to a port of its own to a server.

    Attributes
    ----------
    port
        The port to connect to.
    requests
        Number of requests so far.
    """

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self._target, self._seconds = (host, port), seconds
        self.port, self.requests = 0, 0

    @contextmanager
    def running(self) -> Iterator["DelayingProxy"]:
        """Accept connections, in a thread, while the `with` block lasts."""
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(_end(server), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_connection(*self._target)
            answered = asyncio.Event()
            answered.set()
            await asyncio.gather(
                self._requests(reader, back, answered), _answers(there, writer, answered)
            )

    async def _requests(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, answered: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if answered.is_set():
                    answered.clear()
                    self.requests += 1
                    await asyncio.sleep(self._seconds)
                server.write(data)
                await server.drain()
        server.close()


async def _answers(
    server: asyncio.StreamReader, client: asyncio.StreamWriter, answered: asyncio.Event
) -> None:
    with suppress(OSError):
        while data := await server.read(_CHUNK):
            answered.set()
            client.write(data)
            await client.drain()
    client.close()


async def _end(server: asyncio.Server) -> None:
    """Close the connections that are still open, and wait for their tasks."""
    server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
