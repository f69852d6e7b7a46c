"""A relay for h2spec, which passes on what it writes once it pauses.

The bridge answers h2spec's requests by their headers alone: they are no calls. The frame that a case is about comes
behind them, in a packet of its own, and may find its stream answered and closed, or not. Together they are read
together, every time.
"""

import contextlib
import select
import socket
import threading

PAUSE = 0.005
MANY = 1 << 16


class Relay:
    """Listens on a free port, and connects each who comes to a port of this machine."""

    def __init__(self, port):
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, socket.create_connection(self._to) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=_pass, args=(server, client, 0), daemon=True)
            back.start()
            _pass(client, server, PAUSE)
            back.join()


def _pass(source, sink, pause):
    """Passes bytes on until their end. An end by reset becomes an orderly one: a connection that is closed."""
    with contextlib.suppress(OSError):
        ended = False
        while not ended:
            held = source.recv(MANY)
            ended = not held
            while pause and not ended and select.select([source], [], [], pause)[0]:
                more = source.recv(MANY)
                held, ended = held + more, not more
            sink.sendall(held)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
