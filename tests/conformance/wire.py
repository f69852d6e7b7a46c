"""A gRPC call as frames of HTTP/2: for rules about what a gRPC library would hide or do by itself."""

import socket
import struct
import time
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings

# What grpc-core tells servers that it takes. What it reads is read here all the same, to tell how much came.
ADVERTISED_METADATA = 16384
READ_METADATA = 1 << 24
# What precedes a message: whether it is compressed, and its length.
PREFIX = 5


@dataclass
class Wire:
    """What came back, and how long after the request."""

    headers: list = field(default_factory=list)
    trailers: list = field(default_factory=list)
    data: bytes = b""
    reset: bool = False
    seconds: float | None = None

    def last(self, name):
        found = [value for key, value in [*self.headers, *self.trailers] if key == name]
        return found[-1] if found else None



def call(address, path, message, metadata, patience):
    """One unary call, watched until it ends or patience does. Nothing here knows of a deadline."""
    host, port = address.rsplit(":", 1)
    # latin-1: every byte of a header is kept, whatever it is.
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin-1"))
    connection.local_settings = h2.settings.Settings(client=True, initial_values={
        h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: ADVERTISED_METADATA,
        h2.settings.SettingCodes.ENABLE_PUSH: 0,
    })
    answer, ended = Wire(), False
    with socket.create_connection((host, int(port)), timeout=patience) as stream:
        connection.initiate_connection()
        connection.send_headers(1, [
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", address),
            ("content-type", "application/grpc"), ("te", "trailers"), *metadata,
        ])
        connection.send_data(1, struct.pack(">BI", 0, len(message)) + message, end_stream=True)
        begun = time.monotonic()
        stream.sendall(connection.data_to_send())
        while not ended and (left := begun + patience - time.monotonic()) > 0:
            stream.settimeout(left)
            try:
                received = stream.recv(65536)
            except TimeoutError:
                break
            if not received:
                answer.reset = True
                break
            connection.decoder.max_header_list_size = READ_METADATA
            for event in connection.receive_data(received):
                ended |= _take(connection, answer, event)
            stream.sendall(connection.data_to_send())
    if ended or answer.reset:
        answer.seconds = time.monotonic() - begun
    return answer


def _take(connection, answer, event):
    """Takes one event up; whether the call has ended with it."""
    if isinstance(event, h2.events.ResponseReceived):
        answer.headers = event.headers
    elif isinstance(event, h2.events.TrailersReceived):
        answer.trailers = event.headers
    elif isinstance(event, h2.events.DataReceived):
        answer.data += event.data
        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
        # A GOAWAY after the end of the call is no end of the call.
        answer.reset = True
        return True
    return isinstance(event, h2.events.StreamEnded)
