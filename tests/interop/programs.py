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
GRPCURL = os.environ["GRPCURL"]
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
    """A running command, with what it printed."""

    def __init__(self, *arguments, output, prefix=()):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ATOTI_BRIDGE_") and k != "RUST_LOG"}
        self.lines = []
        self.process = subprocess.Popen(
            [*prefix, BRIDGE, *arguments], stdin=subprocess.DEVNULL, text=True, env=clean,
            **{output: subprocess.PIPE}, **({"stdout": subprocess.DEVNULL} if output == "stderr" else {}),
        )
        self.stream = getattr(self.process, output)
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.stream), daemon=True)
        self.reader.start()

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
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.stream.close()
        return code


class Simulator(Program):
    """`simulate`, steered over its control API."""

    def __init__(self, *arguments):
        listen = arguments or ("--listen=127.0.0.1:0",)
        super().__init__("simulate", *listen, "--queries=0", "--output=json", output="stdout")
        self.url = self.json("the simulator", lambda line: "baseUrl" in line)["baseUrl"]

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

    def __init__(self, upstream_url, *arguments, listen="127.0.0.1:0", drain_delay="0s", prefix=()):
        super().__init__(
            "serve", f"--listen={listen}", "--admin-listen=127.0.0.1:0", f"--drain-delay={drain_delay}",
            "--log-format=json", "--audit-log=stderr", f"--upstream-url={upstream_url}", *arguments,
            output="stderr", prefix=prefix,
        )
        self.address = self.json("the bridge", lambda line: line["message"] == "listening")["grpc.address"]

    def audit(self, request_id):
        """The audit record of a call."""
        return self.json("an audit record", lambda line: line["target"] == "audit" and line["request_id"] == request_id)

    def ended(self, request_id):
        """The log line of a call."""
        return self.json("the call's end", lambda line: is_end(line) and line["request_id"] == request_id)

    def ended_calls(self):
        """The log lines of all calls so far."""
        return list(filter(is_end, (json.loads(line) for line in list(self.lines) if line.startswith("{"))))


def is_end(line):
    return line["message"] == "call ended"


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
