"""A bridge under everything at once, for some minutes: calls of all kinds, callers that hang up or come anew, an Atoti
that fails in many ways, certificates that change, audit records that are rotated. It must give only answers that fit,
record every attempt, and stay as small as it was after the first quarter."""

import argparse
import base64
import collections
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atoti.queryhistory.v1 import query_history_pb2 as pb
from atoti.queryhistory.v1 import query_history_pb2_grpc
from programs import BRIDGE, PATIENCE, SERVICE, Simulator, eventually

# Long enough for any call; one that reaches it was lost.
CALL_TIMEOUT = 15.0
# Calm and trouble take turns. What was in the works when a trouble ends may still fail for a moment: a call that hangs
# has its attempt's timeout, and connections that Atoti has closed are noticed one by one.
CALM, TROUBLE, AFTERMATH = 6.0, 3.0, 3.0
CERTIFICATES_EVERY, ROTATION_EVERY = 3.0, 5.0
# What may come and go without being a leak.
RSS_RATIO, RSS_SLACK_KIB = 1.10, 2048
# Connections to Atoti are as many as calls were just at work, so fewer in calm than in trouble.
COUNT_RATIO, COUNT_SLACK = 1.10, 16

OK, NOT_FOUND, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE
INTERNAL, EXHAUSTED = grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED
DEADLINE, CANCELLED = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED
PRECONDITION, INVALID = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT
UNIMPLEMENTED, UNKNOWN = grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED

HISTORY = "/query-history/"
# Each trouble, and the codes that calls may have for it beside their own.
TROUBLES = [
    ("503", {"status": {"code": 503}}, {}, {UNAVAILABLE}),
    ("500", {"status": {"code": 500, "shape": "error_chain"}}, {}, {INTERNAL}),
    ("429", {"status": {"code": 429, "headers": {"Retry-After": "1"}}}, {}, {EXHAUSTED}),
    ("401", {"status": {"code": 401}}, {}, {UNAUTHENTICATED}),
    ("hang", "hang", {}, {DEADLINE}),
    ("late", {"delay": {"milliseconds": 400}}, {}, {DEADLINE}),
    ("late after effect", {"delay": {"milliseconds": 2500}}, {"after_effect": True, "method": "PATCH"}, {DEADLINE}),
    ("cut", "cut_before_head", {}, {UNAVAILABLE}),
    ("cut after effect", "cut_before_head", {"after_effect": True}, {UNAVAILABLE, NOT_FOUND, PRECONDITION}),
    ("cut in the body", "cut_after_head", {}, {UNAVAILABLE}),
    ("connections dropped", "drop_connection", {"times": 100}, {UNAVAILABLE, INTERNAL}),
    ("trickle", {"trickle": {"bytes": 64, "every_milliseconds": 20}}, {}, {DEADLINE}),
    ("web pages", "html", {}, {UNKNOWN}),
    ("broken JSON", "malformed_json", {}, {INTERNAL}),
    ("endless", "endless_body", {}, {EXHAUSTED, DEADLINE}),
    # When it comes back between two requests of a cancel, a query that was unknown runs: on another node, it seems.
    ("API gone", "missing_api", {}, {UNIMPLEMENTED, NOT_FOUND, PRECONDITION}),
]


class Bridge:
    """`serve`, with its log read and counted, not kept."""

    def __init__(self, upstream_url, files):
        settings = ("ATOTI_BRIDGE_", "OTEL_", "RUST_LOG")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
        flags = {
            "listen": "127.0.0.1:0", "admin-listen": "127.0.0.1:0", "log-format": "json", "drain-delay": "0s",
            "upstream-url": upstream_url, "upstream-timeout": "2s", "max-deadline": "5s", "max-connection-age": "20s",
            "allow-query-plan": "true", "credentials": "jwt", "credentials-file": files / "login",
            "tls-cert-file": files / "server.pem", "tls-key-file": files / "server.key",
            "audit-log": files / "audit.log",
        }
        self.process = subprocess.Popen(
            [BRIDGE, "serve", *(f"--{name}={value}" for name, value in flags.items())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=clean,
        )
        self.messages, self.bugs, self.listening = collections.Counter(), [], None
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        listening = eventually("the bridge", lambda: self.listening)
        self.address, self.admin = listening["grpc.address"], listening["admin.address"]

    def _read(self):
        for line in self.process.stderr:
            event = json.loads(line)
            self.messages[event["message"]] += 1
            if event["message"] == "listening":
                self.listening = event
            if "a bug" in event["message"] or event.get("reason") == "BRIDGE_BUG":
                self.bugs.append(line.strip())

    def metrics(self):
        """Every metric without labels, and the sums of those with."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=PATIENCE) as response:
            text = response.read().decode()
        values = collections.Counter()
        for line in text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.partition(" # ")[0].rpartition(" ")
                values[name.partition("{")[0]] += float(value)
        return values

    def sample(self):
        """What the process uses now, as the kernel has it, and what the bridge says of itself."""
        folder = pathlib.Path("/proc", str(self.process.pid))
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        metrics = self.metrics()
        return {
            "rss": int(status["VmRSS"].split()[0]),
            "threads": int(status["Threads"]),
            "fds": len(os.listdir(folder / "fd")),
            "calls": metrics["atoti_bridge_calls_in_flight"],
            "upstream": metrics["atoti_bridge_upstream_requests_in_flight"],
            "waiting": metrics["atoti_bridge_upstream_requests_waiting"],
            "watches": metrics["atoti_bridge_watches"],
            "pending": metrics["atoti_bridge_audit_records_pending"],
            "connections": metrics["atoti_bridge_connections"],
        }

    def stop(self):
        self.process.terminate()
        code = self.process.wait(PATIENCE + 10)
        self.reader.join(PATIENCE)
        return code


class Trail:
    """The audit records, read as the file is rotated away."""

    def __init__(self, path):
        self.path, self.moved, self.rotations = path, None, 0
        self.lines, self.records, self.malformed = 0, {}, []

    def rotate(self):
        """Moves the file away; one that was moved a turn ago has had its last record."""
        if self.moved:
            self._read(self.moved)
            self.moved = None
        if self.path.exists():
            self.rotations += 1
            self.moved = self.path.with_name(f"audit.{self.rotations}")
            self.path.rename(self.moved)

    def close(self):
        for path in (self.moved, self.path):
            if path and path.exists():
                self._read(path)

    def _read(self, path):
        with path.open() as lines:
            for line in lines:
                self.lines += 1
                try:
                    record = json.loads(line)
                except ValueError:
                    self.malformed.append(line)
                    continue
                # Each query of a bulk cancel has one too, under the same request id: it tells the query's id.
                of_many = record["operation"] == "CancelQueries" and "query_id" in record
                if not of_many:
                    self.records.setdefault(record["request_id"], []).append(record["code"])
        path.unlink()


class Soak:
    def __init__(self, options):
        self.options, self.files = options, pathlib.Path(options.files)
        self.seconds = options.minutes * 60
        self.random = random.Random(options.seed)
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.codes, self.wrong = collections.Counter(), []
        # What must be in the trail: unary attempts whose answer came, by request id.
        self.expected = {}
        # When which trouble was, and what it allows: [from, until or nothing, codes, name].
        self.troubles = []
        self.recent = collections.deque(maxlen=200)
        self.samples = []
        shutil.copy(self.files / "server-0.pem", self.files / "server.pem")
        shutil.copy(self.files / "server-0.key", self.files / "server.key")
        (self.files / "login").write_text("admin:admin\n")
        self.authority = (self.files / "ca.pem").read_bytes()
        self.atoti = Simulator("--listen=127.0.0.1:0", "--arrivals=10", "--history=200")
        self.bridge = Bridge(self.atoti.url, self.files)
        self.trail = Trail(self.files / "audit.log")

    def control(self, method, path, body=None):
        """Steers the simulator, which may be dropping connections, these too."""
        for _ in range(300):
            try:
                return self.atoti._call(method, path, body)
            except (ConnectionError, http.client.HTTPException, urllib.error.URLError):
                time.sleep(0.05)
        raise AssertionError(f"the simulator does not take {method} {path}")

    # What disturbs.

    def swap_certificates(self):
        turn = 0
        while not self.over.wait(CERTIFICATES_EVERY):
            turn += 1
            for kind in ("pem", "key"):
                new = self.files / f"new.{kind}"
                shutil.copy(self.files / f"server-{turn % 3}.{kind}", new)
                new.rename(self.files / f"server.{kind}")

    def rotate_audit(self):
        while not self.over.wait(ROTATION_EVERY):
            self.trail.rotate()

    def trouble_atoti(self):
        kinds = []
        while not self.over.wait(CALM):
            if not kinds:
                kinds = self.random.sample(TROUBLES, len(TROUBLES))
            name, behaviour, narrowed, codes = kinds.pop()
            begun = [time.monotonic(), None, codes, name]
            with self.lock:
                self.troubles.append(begun)
            # Tokens are let be, or all calls would fail alike; but for connections, which nobody can tell apart.
            path = {} if behaviour == "drop_connection" else {"path": HISTORY}
            self.control("POST", "/faults", {"behaviour": behaviour, **path, **narrowed})
            self.over.wait(TROUBLE)
            self.control("DELETE", "/faults")
            begun[1] = time.monotonic() + AFTERMATH

    def troubles_around(self, begun, ended):
        with self.lock:
            return [t for t in self.troubles[-8:] if t[0] <= ended and (t[1] is None or t[1] >= begun)]

    # What calls.

    def caller(self, number):
        dice = random.Random(f"{self.options.seed}/{number}")
        kinds = [
            (self.cancel, 30), (self.cancel_hanging_up, 10), (self.cancel_in_a_hurry, 10), (self.cancel_unknown, 4),
            (self.cancel_invalid, 3), (self.cancel_many, 6), (self.cancel_many_broken_off, 3), (self.cancel_all, 1),
            (self.get, 20), (self.list, 10), (self.watch, 6), (self.watch_broken_off, 6), (self.plan, 5),
            (self.delete, 6), (self.delete_many, 2), (self.info, 3), (self.health, 3),
        ]
        calls, weights = zip(*kinds)
        while not self.over.is_set():
            credentials = grpc.ssl_channel_credentials(self.authority)
            # Channels of one process share connections otherwise.
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", "localhost")]
            with grpc.secure_channel(self.bridge.address, credentials, options) as channel:
                self_ = Client(channel)
                for _ in range(dice.randrange(1, 200)):
                    if self.over.is_set():
                        break
                    (call,) = dice.choices(calls, weights)
                    try:
                        call(self_, dice)
                    except Exception as error:  # pylint: disable=broad-except
                        self.complain(f"{call.__name__}: {error!r}")
                    time.sleep(dice.uniform(0, self.options.pause))

    def complain(self, text):
        with self.lock:
            self.wrong.append(text)
        if len(self.wrong) <= 20:
            print(f"  WRONG: {text}", flush=True)

    def one(self, name, call, *, codes, audited=False, hangs_up=None):
        """Makes a call, or begins it and hangs up, and sees whether its end fits."""
        request_id = base64.b32encode(random.randbytes(10)).decode()
        begun = time.monotonic()
        future = call(metadata=[("x-request-id", request_id)])
        try:
            if hangs_up is not None:
                time.sleep(hangs_up)
                future.cancel()
            answer, code, reason = future.result(), OK, ""
        except grpc.FutureCancelledError:
            answer, code, reason = None, CANCELLED, ""
        except grpc.RpcError as error:
            answer, code, reason = None, error.code(), self.reason(error)
        self.settle(name, begun, code, reason, codes, request_id)
        # Who hung up, or ran out of time, was not told what the record says.
        if audited and code not in (CANCELLED, DEADLINE):
            with self.lock:
                self.expected[request_id] = code.name
        return answer

    def stream(self, name, call, *, codes, most=None):
        """Reads a stream to its end, or breaks it off after so many answers."""
        request_id = base64.b32encode(random.randbytes(10)).decode()
        begun = time.monotonic()
        stream = call(metadata=[("x-request-id", request_id)])
        code, reason, answers = OK, "", []
        try:
            for answer in stream:
                answers.append(answer)
                if most is not None and len(answers) >= most:
                    stream.cancel()
        except grpc.RpcError as error:
            code, reason = error.code(), self.reason(error)
        self.settle(name, begun, code, reason, codes, request_id)
        return answers

    @staticmethod
    def reason(error):
        # By hand: when a stream ends at its deadline, grpcio now and then leaves the text percent-encoded, and
        # grpc_status then refuses it for not being that of the details.
        details = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
        for packed in status_pb2.Status.FromString(details[0]).details if details else []:
            detail = error_details_pb2.ErrorInfo()
            if packed.Unpack(detail):
                return detail.reason
        return f"no ErrorInfo: {error.details()}"

    def settle(self, name, begun, code, reason, codes, request_id):
        with self.lock:
            self.codes[name, code.name] += 1
        around = self.troubles_around(begun, time.monotonic())
        allowed = {OK, *codes}.union(*(trouble[2] for trouble in around))
        # A watch is told to go elsewhere when its connection has reached its age.
        aged = name.startswith("watch") and reason == "DRAINING"
        # Budget and timing aside, no trouble makes the bridge say these.
        if reason in ("BRIDGE_BUG", "OVERLOADED", "AUDIT_FAILED", "AUDIT_UNAVAILABLE") or not (code in allowed or aged):
            took = time.monotonic() - begun
            names = [trouble[3] for trouble in around]
            self.complain(f"{name} {code.name} {reason} after {took:.3f} s ({request_id}, troubles: {names})")

    def running(self, **fields):
        username = self.random.choice(["ada", "grace", "edsger"])
        query = self.control("POST", "/queries", {"username": username, **fields})["id"]
        with self.lock:
            self.recent.append(query)
        return query

    def some_query(self, dice):
        with self.lock:
            return dice.choice(self.recent) if self.recent else "42"

    def cancel(self, client, dice):
        query = self.running() if dice.random() < 0.7 else self.some_query(dice)
        request = pb.CancelQueryRequest(query_id=query, reason="soak", allow_finished=dice.random() < 0.5)
        if dice.random() < 0.3:
            request.wait.FromMilliseconds(500)
        answer = self.one("cancel", client.call("CancelQuery", request), codes={NOT_FOUND}, audited=True)
        if answer and answer.outcome == pb.CANCEL_OUTCOME_UNSPECIFIED:
            self.complain("a cancel without an outcome")

    def cancel_hanging_up(self, client, dice):
        request = pb.CancelQueryRequest(query_id=self.running(), reason="soak")
        call = client.call("CancelQuery", request)
        self.one("cancel, hung up", call, codes={CANCELLED, NOT_FOUND}, audited=True, hangs_up=dice.uniform(0, 0.01))

    def cancel_in_a_hurry(self, client, dice):
        request = pb.CancelQueryRequest(query_id=self.running(), reason="soak")
        call = client.call("CancelQuery", request, timeout=dice.uniform(0.001, 0.03))
        self.one("cancel, in a hurry", call, codes={DEADLINE, NOT_FOUND}, audited=True)

    def cancel_unknown(self, client, dice):
        request = pb.CancelQueryRequest(query_id=f"unknown-{dice.random()}", allow_finished=dice.random() < 0.5)
        self.one("cancel, unknown", client.call("CancelQuery", request), codes={NOT_FOUND}, audited=True)

    def cancel_invalid(self, client, dice):
        request = pb.CancelQueryRequest(query_id=dice.choice(["", "..", "a/b", "x" * 129]), reason="soak")
        self.one("cancel, invalid", client.call("CancelQuery", request), codes={INVALID}, audited=True)

    def many(self, dice):
        request = pb.CancelQueriesRequest(reason="soak", validate_only=dice.random() < 0.4)
        request.filter.usernames.append(dice.choice(["ada", "grace", "edsger", "nobody"]))
        return request

    def cancel_many(self, client, dice):
        call = client.call("CancelQueries", self.many(dice), future=False)
        self.stream("cancel many", call, codes={PRECONDITION})

    def cancel_many_broken_off(self, client, dice):
        call = client.call("CancelQueries", self.many(dice), future=False)
        self.stream("cancel many, broken off", call, codes={PRECONDITION, CANCELLED}, most=dice.randrange(1, 4))

    def cancel_all(self, client, dice):
        request = pb.CancelAllQueriesRequest(reason="soak")
        if dice.random() < 0.5:
            request.wait.FromMilliseconds(300)
        self.one("cancel all", client.call("CancelAllQueries", request), codes=set(), audited=True)

    def get(self, client, dice):
        request = pb.GetQueryRequest(query_id=self.some_query(dice))
        self.one("get", client.call("GetQuery", request), codes={NOT_FOUND})

    def list(self, client, dice):
        request = pb.ListQueriesRequest(page_size=dice.choice([1, 10, 100]))
        if dice.random() < 0.5:
            request.filter.statuses.append(pb.QUERY_STATUS_RUNNING)
        for _ in range(3):
            answer = self.one("list", client.call("ListQueries", request), codes=set())
            if not answer or not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    def watch(self, client, dice):
        query = self.running(runsMilliseconds=dice.randrange(1, 2500))
        request, timeout = pb.WatchQueryRequest(query_id=query), dice.choice([1, 10])
        call = client.call("WatchQuery", request, timeout, future=False)
        # What has ended may be deleted by another caller.
        self.stream("watch", call, codes={DEADLINE, NOT_FOUND})

    def watch_broken_off(self, client, dice):
        call = client.call("WatchQuery", pb.WatchQueryRequest(query_id=self.some_query(dice)), future=False)
        self.stream("watch, broken off", call, codes={NOT_FOUND, CANCELLED}, most=1)

    def plan(self, client, dice):
        request = pb.GetQueryPlanRequest(query_id=self.some_query(dice))
        self.one("plan", client.call("GetQueryPlan", request), codes={NOT_FOUND, INVALID})

    def delete(self, client, dice):
        request = pb.DeleteQueryRequest(query_id=self.some_query(dice), reason="soak")
        # INVALID: it ran when Atoti refused to delete it, and had ended when the bridge looked why.
        codes = {NOT_FOUND, PRECONDITION, INVALID}
        self.one("delete", client.call("DeleteQuery", request), codes=codes, audited=True)

    def delete_many(self, client, dice):
        request = pb.DeleteQueriesRequest(reason="soak")
        request.filter.usernames.append(dice.choice(["ada", "grace", "edsger", "nobody"]))
        self.one("delete many", client.call("DeleteQueries", request), codes=set(), audited=True)

    def info(self, client, dice):
        self.one("info", client.call("GetServerInfo", pb.GetServerInfoRequest()), codes=set())

    def health(self, client, dice):
        answer = client.health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=CALL_TIMEOUT)
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            self.complain(f"health: {answer.status}")

    # What is seen.

    def run(self):
        print(f"seed {self.options.seed}, {self.options.minutes:g} minutes, {self.options.callers} callers")
        begun = time.monotonic()
        work = [self.swap_certificates, self.rotate_audit, self.trouble_atoti]
        threads = [threading.Thread(target=task, daemon=True) for task in work]
        callers = [
            threading.Thread(target=self.caller, args=(number,), daemon=True) for number in range(self.options.callers)
        ]
        for thread in threads + callers:
            thread.start()
        print(f"{'minute':>6} {'calls':>8} {'RSS KiB':>8} {'fds':>5} {'threads':>7} {'in flight':>9} "
              f"{'upstream':>8} {'watches':>7} {'wrong':>5}")
        next_row = 60.0
        while (now := time.monotonic() - begun) < self.seconds:
            if self.bridge.process.poll() is not None:
                self.complain(f"the bridge ended: {self.bridge.process.returncode}")
                break
            self.samples.append(self.bridge.sample())
            if now >= next_row:
                self.row(next_row / 60)
                next_row += 60
            time.sleep(1)
        self.over.set()
        for thread in threads + callers:
            thread.join(CALL_TIMEOUT * 2)
            if thread.is_alive():
                self.complain("a thread did not end")
        self.row(self.options.minutes)
        self.control("DELETE", "/faults")
        self.end()
        return self.verdict()

    def row(self, minute):
        last = self.samples[-60:]
        middle = {key: statistics.median(sample[key] for sample in last) for key in last[0]}
        print(f"{minute:>6.1f} {sum(self.codes.values()):>8} {middle['rss']:>8.0f} {middle['fds']:>5.0f} "
              f"{middle['threads']:>7.0f} {middle['calls']:>9.0f} {middle['upstream']:>8.0f} {middle['watches']:>7.0f} "
              f"{len(self.wrong):>5}", flush=True)

    def end(self):
        """Quiet comes, every attempt is in the trail, and the process ends well."""
        gauges = ("calls", "upstream", "waiting", "watches", "pending")
        try:
            eventually("quiet", lambda: not any(map(self.bridge.sample().get, gauges)))
            print(f"nothing in flight at the end: {', '.join(gauges)}")
        except AssertionError as error:
            self.complain(f"{error}: {self.bridge.sample()}")
        metrics = self.bridge.metrics()
        code = self.bridge.stop()
        self.atoti.stop()
        self.trail.close()
        if code != 0:
            self.complain(f"the bridge ended with {code}")
        for bug in self.bridge.bugs[:5]:
            self.complain(f"a bug: {bug}")
        attempts, written = metrics["atoti_bridge_attempts_total"], metrics["atoti_bridge_audit_records_total"]
        lost = metrics["atoti_bridge_audit_records_lost_total"]
        print(f"attempts {attempts:.0f}, records written {written:.0f}, in {self.trail.rotations + 1} files "
              f"{self.trail.lines}, lost {lost:.0f}, panics {metrics['atoti_bridge_panics_total']:.0f}")
        if not attempts == written == self.trail.lines or lost or self.trail.malformed:
            self.complain("attempts and audit records do not agree")
        if metrics["atoti_bridge_panics_total"]:
            self.complain("it panicked")
        for request_id, expected in self.expected.items():
            recorded = self.trail.records.get(request_id, [])
            if recorded != [expected]:
                self.complain(f"{request_id}: the caller was told {expected}, the records say {recorded}")
        told = self.bridge.messages
        if told["read again"] < self.seconds / CERTIFICATES_EVERY / 4:
            self.complain(f"new certificates were read {told['read again']} times only")

    def flat(self, what, ratio, slack):
        """Whether the last quarter is like the second; the first one is for warming up."""
        quarter = len(self.samples) // 4
        second, last = self.samples[quarter:2 * quarter], self.samples[3 * quarter:]
        before, after = (statistics.median(sample[what] for sample in part) for part in (second, last))
        most = before * ratio + slack
        print(f"{what}: {before:.0f} in the second quarter, {after:.0f} in the last, {most:.0f} allowed")
        if after > most:
            self.complain(f"{what} grew from {before:.0f} to {after:.0f}")

    def verdict(self):
        self.flat("rss", RSS_RATIO, RSS_SLACK_KIB)
        for what in ("fds", "threads", "connections"):
            self.flat(what, COUNT_RATIO, COUNT_SLACK)
        by_name = collections.defaultdict(list)
        for (name, code), times in sorted(self.codes.items()):
            by_name[name].append(f"{code} {times}")
        for name, codes in by_name.items():
            print(f"  {name}: {', '.join(codes)}")
        # What never came about has not been tested.
        kinds = ("cancel", "get", "watch", "list", "plan", "delete")
        missing = {kind for kind in kinds if (kind, "OK") not in self.codes}
        if missing:
            self.complain(f"none of these succeeded: {sorted(missing)}")
        calls = sum(self.codes.values())
        if self.wrong:
            print(f"FAILED after {calls} calls: {len(self.wrong)} things were wrong (seed {self.options.seed})")
            return 1
        print(f"flat: {calls} calls in {self.options.minutes:g} minutes, {len(self.troubles)} troubles of Atoti, "
              f"{self.bridge.messages['read again']} new certificates, {self.trail.rotations} rotations")
        return 0


class Client:
    """One channel; calls are handed out without being made, so that what makes them adds its request id."""

    def __init__(self, channel):
        self.stub = query_history_pb2_grpc.QueryHistoryServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    def call(self, method, request, timeout=CALL_TIMEOUT, future=True):
        method = getattr(self.stub, method)
        method = method.future if future else method
        return lambda metadata: method(request, timeout=timeout, metadata=metadata)


def main():
    parser = argparse.ArgumentParser(prog="tests/soak/run", description=__doc__)
    parser.add_argument("--files", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default 2)")
    parser.add_argument("--callers", type=int, default=8, help="callers at once, each with a connection (default 8)")
    parser.add_argument("--pause", type=float, default=0.04, help="longest pause between two calls of one, in seconds")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of what is called and fails when")
    options = parser.parse_args()
    if not 0 < options.minutes <= 24 * 60:
        parser.error("--minutes: give more than 0, a day at most")
    # Told to stop, it takes its programs along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    soak = Soak(options)
    try:
        return soak.run()
    finally:
        for program in (soak.bridge, soak.atoti):
            if program.process.poll() is None:
                program.process.kill()


if __name__ == "__main__":
    sys.exit(main())
