"""The programs under test: the bridge, and the simulated Atoti Server behind it, each a process of its own."""

import base64
import json
import os
import subprocess
import threading
import time
import unittest
import urllib.request

BRIDGE = os.environ["BRIDGE"]
GRPCURL = os.environ.get("GRPCURL", "grpcurl")
SERVICE = "atoti.queryhistory.v1.QueryHistoryService"
USER = "Basic " + base64.b64encode(b"user:user").decode()
PATIENCE = 20.0


def eventually(what, look, patience=PATIENCE):
    """Looks until there is something to see."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        seen = look()
        if seen:
            return seen
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


class Program:
    """A running command, with what it printed: on standard output, and on standard error where that is asked for."""

    def __init__(self, *arguments, errors=False, prefix=(), environment=None):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ATOTI_BRIDGE_") and k != "RUST_LOG"}
        self.lines = []
        self.process = subprocess.Popen(
            [*prefix, BRIDGE, *arguments], stdin=subprocess.DEVNULL, text=True, env=clean | (environment or {}),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE if errors else None,
        )
        self.streams = [self.process.stdout, *([self.process.stderr] if errors else [])]
        self.readers = [threading.Thread(target=self._read, args=[stream], daemon=True) for stream in self.streams]
        for reader in self.readers:
            reader.start()

    def _read(self, stream):
        for line in stream:
            self.lines.append(line)

    def json(self, what, fits):
        """The first line that is JSON and fits, now or later."""

        def look():
            for line in list(self.lines):
                if line.startswith("{") and fits(json.loads(line)):
                    return json.loads(line)
            if self.process.poll() is not None:
                raise AssertionError(f"it ended: {self.lines}")
            return None

        return eventually(what, look)

    def stop(self):
        self.process.terminate()
        return self.ended()

    def ended(self):
        """Its exit code, once it has one."""
        code = self.process.wait(PATIENCE)
        for reader, stream in zip(self.readers, self.streams):
            reader.join(PATIENCE)
            stream.close()
        return code


class Simulator(Program):
    """`simulate`, steered over its control API."""

    def __init__(self, *arguments, queries=0):
        listen = arguments or ("--listen=127.0.0.1:0",)
        super().__init__("simulate", *listen, f"--queries={queries}", "--output=json")
        started = self.json("the simulator", lambda line: "baseUrl" in line)
        self.url, self.queries = started["baseUrl"], started["running"]

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/simulator{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            text = response.read()
            return json.loads(text) if text else None

    def start_query(self, **query):
        return self._call("POST", "/queries", query)["id"]

    def running(self):
        return [query["id"] for query in self._call("GET", "/queries")["running"]]

    def requests(self):
        return self._call("GET", "/requests")["requests"]

    def reset(self):
        self._call("DELETE", "/faults")
        self._call("DELETE", "/requests")

    def inject(self, behaviour, **fault):
        self._call("POST", "/faults", {"behaviour": behaviour, **fault})


class Bridge(Program):
    """`serve`."""

    def __init__(self, upstream_url, *flags, prefix=(), environment=None, listen="127.0.0.1:0",
                 admin_listen="127.0.0.1:0", drain_delay="0s"):
        super().__init__(
            "serve", f"--listen={listen}", f"--admin-listen={admin_listen}", f"--drain-delay={drain_delay}",
            "--log-format=json", f"--upstream-url={upstream_url}", *flags, errors=True, prefix=prefix,
            environment=environment,
        )
        listening = self.json("the bridge", lambda line: line.get("message") == "listening")
        self.address, self.admin = listening["grpc.address"], listening["admin.address"]

    def audit(self, request_id):
        """The audit record of a call. Only audit records name an operation."""
        return self.json("an audit record", lambda line: "operation" in line and line["request_id"] == request_id)

    def call_ended(self, request_id):
        """The log line of a call."""
        return self.json("the call's end", lambda line: is_end(line) and line["request_id"] == request_id)

    def calls_ended(self):
        """The log lines of all calls so far."""
        return list(filter(is_end, (json.loads(line) for line in list(self.lines) if line.startswith("{"))))


def is_end(line):
    return line.get("message") == "call ended"


class Case(unittest.TestCase):
    """Tests that share a bridge and its Atoti."""

    @classmethod
    def setUpClass(cls):
        cls.atoti = Simulator()
        cls.bridge = Bridge(cls.atoti.url)

    @classmethod
    def tearDownClass(cls):
        codes = [cls.bridge.stop(), cls.atoti.stop()]
        assert codes == [0, 0], f"both end well when told to: {codes}"

    def setUp(self):
        self.atoti.reset()
