"""What is measured: each function makes one round of one kind, every contestant in turn, and returns plain figures."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from comparison import part, processes, wire
from comparison.contestants import ALL, GRPC, Bridge, Envoy, Floor, Full, Nginx, Upstream, Vanguard, call

# Connections, and streams on each. The first is what throughput and processor time are told by.
SHAPES = {"1 x 64": (1, 64), "8 x 8": (8, 8), "1 x 1": (1, 1), "1000 x 1": (1000, 1)}
WIDE = {"1 x 4096": (1, 4096), "100 x 10": (100, 10)}
RATES = [1_000, 5_000]
IDLE_CONNECTIONS = 1_000
# Cancels a second beside an overload of pages: many, for people, and next to nothing for a core.
BESIDE = 100
# How long the upstream takes over the call that fills the bridge, while it refuses all others.
FILLING = 60
# Of the upstream of a bulk cancel, in seconds.
BULK_DELAY = 0.005
# Of the slow upstream, in seconds; calls a second that it gets, and how long their callers wait.
SLOWNESS, SLOW_RATE, SLOW_DEADLINE = 1, 300, 10
STARTS = 5


@dataclass(frozen=True)
class Settings:
    """How long."""

    seconds: float
    warmup: float
    # Of the load that memory is watched under.
    load: float
    overload: float


@dataclass(frozen=True)
class Overload:
    """What is asked for twice as much as it can."""

    kinds: list
    # Connections, and streams on each, that show what it can.
    shape: tuple
    upstream: dict = field(default_factory=dict)
    # What is called, if it is not what the contestant is called for else.
    call: str | None = None
    # Of the core, what the contestant has of it.
    share: float = 1


OVERLOADS = {
    # So many threads, as a web server has, that take so many seconds for each answer.
    "upstream": Overload([Floor, Bridge, Envoy, Vanguard], (8, 16), {"delay": 0.005, "at_once": 64}),
    # Of calls that take the contestant far longer than who makes them, one core can ask another for twice as many. No
    # more of them at once than the bridge lets in however late it is.
    "core": Overload([Bridge], (8, 3), call="list-usual"),
    # Of cancels it could not: hence a part of a core.
    "cancels": Overload([Floor, Bridge, Envoy, Vanguard], (1, 64), share=0.25),
}


def tell(*what):
    print(*what, file=sys.stderr, flush=True)


class Round:
    """One round. All contestants run through it at once, idle but for the one that is called."""

    def __init__(self, settings, cores):
        self.settings, self.cores = settings, cores
        self._timing = {"seconds": settings.seconds, "warmup": settings.warmup}

    def measure(self):
        figures = {}
        with contextlib.ExitStack() as stack:
            upstream = stack.enter_context(Upstream(self.cores.upstream))
            running = [stack.enter_context(kind(upstream.address, self.cores.contestant)) for kind in ALL]
            figures["closed"] = self.closed(running, SHAPES)
            figures["paced"] = self.paced(running)
            figures["wide"] = self.closed([each for each in running if each.part == "load"], WIDE)
            figures["list"] = self.listing(next(each for each in running if type(each) is Bridge))
        figures["bulk"] = self.bulk()
        figures["overload"] = {what: self.overload(what) for what in OVERLOADS}
        figures["refusing"] = self.refusing()
        figures["slow"] = self.slow()
        figures["pair"] = self.pair()
        figures["memory"] = self.memory()
        return figures

    def closed(self, running, shapes):
        """Calls as fast as they are answered."""
        figures = {}
        for shape, (connections, streams) in shapes.items():
            tell(f"  {shape}, as fast as possible")
            figures[shape] = {
                each.name: call(each, self.cores.callers, connections=connections, streams=streams, **self._timing)
                for each in running if each.least <= connections * streams
            }
        return figures

    def paced(self, running):
        """Calls by a timetable, twice as long: there are fewer of them, and the last percent is to be told."""
        figures = {}
        for rate in RATES:
            tell(f"  {rate} a second")
            figures[str(rate)] = {
                each.name: call(each, self.cores.callers, connections=8, rate=rate, seconds=2 * self.settings.seconds,
                                warmup=self.settings.warmup)
                for each in running if each.least == 1
            }
        return figures

    def listing(self, bridge):
        """A large page through the bridge, and what it takes to parse it."""
        tell("  a page of a list")
        command = ["taskset", "--cpu-list", self.cores.contestant, os.environ["RIG"], "parse",
                   f"--seconds={self.settings.seconds}"]
        parsed = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60 + self.settings.seconds)
        listed = call(bridge, self.cores.callers, streams=8, call="list", **self._timing)
        return {"parsed": json.loads(parsed.stdout), "listed": listed}

    def bulk(self):
        """All of a page, stopped by one call: what it costs, and how long it takes where one cancel takes long."""
        tell("  many queries by one call")
        with (Upstream(self.cores.upstream) as upstream,
              Bridge(upstream.address, self.cores.contestant) as bridge):
            cost = call(bridge, self.cores.callers, call="cancel-many", streams=4, **self._timing)
        with (Upstream(self.cores.upstream, delay=BULK_DELAY) as upstream,
              Bridge(upstream.address, self.cores.contestant) as bridge):
            one = call(bridge, self.cores.callers, **self._timing)
            many = call(bridge, self.cores.callers, call="cancel-many", **self._timing)
        return {"cost": cost, "one": one, "many": many}

    def overload(self, what):
        """Half and twice as many calls as can be had, from callers that wait a second."""
        over = OVERLOADS[what]
        figures = {}
        for kind in over.kinds:
            tell(f"  twice too much, {what}: {kind.name}")
            with (Upstream(self.cores.upstream, **over.upstream) as upstream,
                  kind(upstream.address, self.cores.contestant) as contestant,
                  part.of_a_core(over.share, contestant.pids()) as had):
                figures[kind.name] = {"share": had, **self._asked_too_much(contestant, over)}
        return figures

    def _asked_too_much(self, contestant, over):
        connections, streams = over.shape
        asked = {"call": over.call or contestant.call}
        capacity = call(contestant, self.cores.callers, connections=connections, streams=streams, **asked,
                        **self._timing)["rate"]
        asked |= {"connections": 8, "deadline": 1, "warmup": self.settings.warmup}
        half = call(contestant, self.cores.callers, rate=max(1, round(capacity / 2)),
                    seconds=2 * self.settings.seconds, **asked)
        long = {"seconds": self.settings.overload}
        with ThreadPoolExecutor(1) as beside:
            # What the contestant is there for, in the midst of other calls.
            cancels = over.call and beside.submit(
                call, contestant, self.cores.callers, **(asked | long | {"call": contestant.call, "rate": BESIDE}))
            done = call(contestant, self.cores.callers, rate=max(1, round(2 * capacity)), **asked, **long)
        return {"capacity": capacity, "half": half, "beside": cancels and cancels.result(),
                "peak_kib": processes.most_resident(contestant.pids()[0]), **done}

    def refusing(self):
        """What it takes to refuse a call: the bridge, when it is full; and the floor, which reads nothing of it."""
        tell("  calls that are refused")
        with (Upstream(self.cores.upstream, delay=FILLING) as upstream,
              Floor(upstream.address, self.cores.contestant) as floor,
              Full(upstream.address, self.cores.contestant) as bridge):
            with bridge.filled(self.cores.callers):
                refused = {
                    "bridge": call(bridge, self.cores.callers, streams=64, **self._timing),
                    "floor": call(floor, self.cores.callers, call="transcoded", streams=64, **self._timing),
                }
        assert not any(each["good"] for each in refused.values()), "nothing is refused"
        return refused

    def slow(self):
        """An upstream that takes its time, and more calls than it can have at once."""
        tell("  a slow upstream")
        with (Upstream(self.cores.upstream, delay=SLOWNESS) as upstream,
              Bridge(upstream.address, self.cores.contestant) as bridge):
            seconds = max(self.settings.seconds, 4 * SLOWNESS)
            return call(bridge, self.cores.callers, connections=8, rate=SLOW_RATE, deadline=SLOW_DEADLINE,
                        seconds=seconds, warmup=2 * SLOWNESS)

    def pair(self):
        """Two cores instead of one."""
        figures = {}
        for kind in [Floor, Bridge, Envoy, Vanguard]:
            tell(f"  on two cores: {kind.name}")
            with Upstream(self.cores.beside_pair) as upstream, kind(upstream.address, self.cores.pair) as contestant:
                figures[kind.name] = call(contestant, self.cores.beside_pair, connections=8, streams=8, **self._timing)
        return figures

    def memory(self):
        """What is held at rest, and by connections that do nothing."""
        figures = {}
        for kind in [*GRPC, Nginx]:
            tell(f"  memory: {kind.name}")
            with (Upstream(self.cores.upstream) as upstream,
                  kind(upstream.address, self.cores.contestant) as contestant):
                time.sleep(1)
                idle = processes.resident(contestant.pids()[0])
                with idle_connections(contestant, IDLE_CONNECTIONS):
                    with_connections = processes.resident(contestant.pids()[0])
                figures[kind.name] = {
                    "idle_kib": idle, "connection_kib": (with_connections - idle) / IDLE_CONNECTIONS,
                }
        return figures


@contextlib.contextmanager
def idle_connections(contestant, count):
    """Callers that have said hello, and nothing since."""
    host, port = contestant.address.split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
            if contestant.part == "load":
                connection.sendall(wire.HELLO)
                # The server's hello.
                connection.recv(4096)
        time.sleep(1)
        yield


def starts():
    """Milliseconds from the creation of the process to a connection, and to the answer to a health check."""
    tell("starts")
    figures = []
    for _ in range(STARTS):
        port = processes.free_port()
        command = [os.environ["BRIDGE"], "serve", f"--listen=127.0.0.1:{port}", "--admin-listen=127.0.0.1:0",
                   "--drain-delay=0s", "--log-format=json", "--upstream-url=http://127.0.0.1:1"]
        began = time.monotonic()
        process = subprocess.Popen(command, env=processes.environment(), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            connection = connected(port, process)
            listening = time.monotonic()
            with connection:
                wire.await_health(connection)
            answered = time.monotonic()
        finally:
            process.terminate()
            process.wait(processes.PATIENCE)
        figures.append({"listening_ms": (listening - began) * 1000, "answered_ms": (answered - began) * 1000})
    return figures


def connected(port, process):
    """The first connection that a process accepts."""
    while process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except ConnectionRefusedError:
            time.sleep(0.0002)
    raise SystemExit("error: the bridge does not start")


def load(settings, cores):
    """Memory of a bridge that is kept busy, in KiB: after each tenth of the load."""
    tell(f"memory under {settings.load:.0f} seconds of load")
    with Upstream(cores.upstream) as upstream, Bridge(upstream.address, cores.contestant) as bridge:
        held = []
        for _ in range(10):
            done = call(bridge, cores.callers, connections=8, streams=8, seconds=settings.load / 10, warmup=0)
            if done["good"] != done["calls"]:
                tell(f"  not all were good: {done['by_code']}")
            held.append(processes.resident(bridge.pids()[0]))
        return held


def binary():
    """The size of the program, as it is and stripped, in bytes."""
    with tempfile.NamedTemporaryFile() as stripped:
        subprocess.run(["strip", "-o", stripped.name, os.environ["BRIDGE"]], check=True)
        return {"bytes": os.path.getsize(os.environ["BRIDGE"]), "stripped_bytes": os.path.getsize(stripped.name)}
