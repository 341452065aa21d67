"""Stands in front of an S3 server, and makes it fail when a chosen request comes.

    with Gate(port_of_the_server) as gate:
        fault = gate.when("PUT .*/LATEST", "refuse", seconds=20)
        ...                                # jobs with AWS_ENDPOINT_URL=gate.url
        assert fault.came.is_set()

The server keeps its data all the while, as one does that is restarted.
"""

import contextlib
import re
import socket
import threading
from dataclasses import dataclass, field
from typing import Literal

_CHUNK = 1 << 16
_REQUEST = re.compile(rb"(?:GET|PUT|HEAD|POST|DELETE) \S+(?= HTTP/1\.1\r\n)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_EXPIRED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>ExpiredToken</Code>'
    b"<Message>The provided token has expired.</Message></Error>"
)

How = Literal["refuse", "silence", "expire"]


@dataclass
class Fault:
    """Something that happens to S3 when a request comes, from that request on.

    Attributes
    ----------
    request
        A pattern of the request, such as `PUT /bucket/.*LATEST`.
    how
        `refuse`: connections are refused, and open ones are cut. `silence`: connections are
        accepted, and nothing is answered. `expire`: all requests are answered by 400 ExpiredToken.
    seconds
        How long it lasts; None means until `Gate.open`.
    came
        Is set once it has begun.
    """

    request: str
    how: How
    seconds: float | None
    came: threading.Event = field(default_factory=threading.Event)


class Gate:
    """A port of its own, from which connections are passed on to an S3 server.

    Attributes
    ----------
    url
        For `AWS_ENDPOINT_URL`.
    requests
        Method and path of all requests so far, those that failed too.
    """

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = _bound(0)
        self._port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.requests: list[str] = []
        self._how: How | None = None
        self._faults: list[Fault] = []
        self._connections: set[socket.socket] = set()
        self._lock = threading.RLock()
        self._closed = False

    def __enter__(self) -> "Gate":
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._stop_listening()
        self._cut()

    def when(self, request: str, how: How, seconds: float | None = None) -> Fault:
        """Fail in this way from the first request on that the pattern is found in."""
        fault = Fault(request, how, seconds)
        with self._lock:
            self._faults.append(fault)
        return fault

    def open(self) -> None:
        """Work again, and forget the faults that did not come."""
        with self._lock:
            self._faults.clear()
            self._restore()

    def _begin(self, fault: Fault) -> None:
        with self._lock:
            if fault not in self._faults:
                return
            self._faults.remove(fault)
            self._how = fault.how
            if fault.how == "refuse":
                self._stop_listening()
                # Bound, so that nobody takes the port, but not listening: so it refuses.
                self._listener = _bound(self._port)
            self._cut()
        fault.came.set()
        if fault.seconds is not None:
            later = threading.Timer(fault.seconds, self._restore)
            later.daemon = True
            later.start()

    def _restore(self) -> None:
        with self._lock:
            refused, self._how = self._how == "refuse", None
            self._cut()
            if refused and not self._closed:
                self._listen()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()

    def _cut(self) -> None:
        """End all connections."""
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            _end(connection)

    def _listen(self) -> None:
        listener = self._listener
        listener.listen(100)

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._connections.add(client)
            how = self._how
        if how == "expire":
            self._answer_expired(client)
            return
        if how == "silence":
            return
        if how == "refuse":  # it had connected just before
            _end(client)
            return
        try:
            server = socket.create_connection(self._server)
        except OSError:
            _end(client)
            return
        with self._lock:
            self._connections.add(server)
        threading.Thread(target=self._pass_on, args=(server, client), daemon=True).start()
        self._pass_on(client, server, watched=True)

    def _pass_on(self, source: socket.socket, target: socket.socket, watched: bool = False) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if watched and self._look(chunk):
                    break
                target.sendall(chunk)
        for end in (source, target):
            with self._lock:
                self._connections.discard(end)
            _end(end)

    def _look(self, chunk: bytes) -> bool:
        """Note the requests of a chunk; returns whether a fault began, so that it is not sent."""
        for found in _REQUEST.findall(chunk):
            request = found.decode(errors="replace")
            self.requests.append(request)
            for fault in list(self._faults):
                if re.search(fault.request, request):
                    self._begin(fault)
                    return True
        return False

    def _answer_expired(self, client: socket.socket) -> None:
        """Answer one request by 400 ExpiredToken; the answer to HEAD has no body."""
        with contextlib.suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received:
                chunk = client.recv(_CHUNK)
                if not chunk:
                    break
                received += chunk
            head, _, body = received.partition(b"\r\n\r\n")
            self.requests += [found.decode() for found in _REQUEST.findall(received)[:1]]
            length = _LENGTH.search(head + b"\r\n")
            waits = b"100-continue" in head.lower()
            missing = 0 if waits or length is None else int(length[1]) - len(body)
            while missing > 0 and (chunk := client.recv(_CHUNK)):
                missing -= len(chunk)
            client.sendall(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/xml\r\n"
                + f"Connection: close\r\nContent-Length: {len(_EXPIRED)}\r\n\r\n".encode()
                + (b"" if head.startswith(b"HEAD ") else _EXPIRED)
            )
        with self._lock:
            self._connections.discard(client)
        _end(client)


def _bound(port: int) -> socket.socket:
    """A socket that has a port (0: any free one), but does not listen yet."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
