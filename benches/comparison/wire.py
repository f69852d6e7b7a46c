"""What of HTTP/2 a client sends first, byte by byte: for callers that do nothing, and for the very first call."""

import socket

# The header block of grpc.health.v1.Health/Check, in literals without indexing.
LITERALS = [
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/grpc.health.v1.Health/Check"),
    (b":authority", b"bridge"), (b"content-type", b"application/grpc"), (b"te", b"trailers"),
]
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


# A connection that has said hello, and accepted whatever the server has to say.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"") + frame(SETTINGS, ACK, 0, b"")


def health_call():
    """One call of grpc.health.v1.Health/Check with an empty message."""
    block = b"".join(bytes([0, len(name)]) + name + bytes([len(value)]) + value for name, value in LITERALS)
    return HELLO + frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, b"\0\0\0\0\0")


def await_health(connection: socket.socket):
    """Asks for health, and waits for the answer: a DATA frame on stream 1."""
    received = b""
    connection.sendall(health_call())
    while True:
        part = connection.recv(4096)
        if not part:
            raise ConnectionError(f"no answer to the health check: {received!r}")
        received += part
        rest = received
        while len(rest) >= 9 + int.from_bytes(rest[:3], "big"):
            if rest[3] == DATA and int.from_bytes(rest[5:9], "big") == 1:
                return
            rest = rest[9 + int.from_bytes(rest[:3], "big"):]
