"""Every client over every transport: each scenario is told once, and all must see the same.

clients/README.md says what the clients are. What a client cannot do is in CANNOT, with the reason; codes of its own
making are in OWN_WAY. The matrix is printed at the end.
"""

import base64
import collections
import concurrent.futures
import pathlib
import tempfile
import threading
import time
import unittest

from authority import Authority
from clients import MAKES, Transport
from programs import PATIENCE, SERVICE, USER, Bridge, Simulator, eventually

ADMIN = "Basic " + base64.b64encode(b"admin:admin").decode()
# In the client's certificate, and so in the audit records.
CALLER = "matrix.example"
TRANSPORTS = ["plaintext", "TLS", "mTLS", "Unix socket"]
# Clients whose calls share a connection.
CHANNELS = [client for client in MAKES if client != "grpcurl"]

CANNOT = {
    ("grpcurl", "a large header spares its neighbours"): "it has a connection for every call",
    ("grpcurl", "connections that reach their age"): "it has a connection for every call",
    ("grpcurl", "a restart"): "it has a connection for every call",
    ("node", "reflection v1"): "the library has no client of reflection",
    ("node", "reflection v1alpha"): "the library has no client of reflection",
    ("python", "reflection v1"): "the library's client of reflection speaks v1alpha alone",
}
OWN_WAY = {
    # They know the limit of the server, and do not send.
    ("go", "a large header"): ["INTERNAL"],
    ("java", "a large header"): ["INTERNAL"],
    # Ctrl-C ends the program.
    ("grpcurl", "a cancel"): ["(no status)"],
    # Its own clock runs beside the bridge's, and has another code for it.
    ("rust", "a deadline"): ["CANCELLED", "DEADLINE_EXCEEDED"],
    # It does not come as far as a call.
    ("grpcurl", "a stranger"): ["(no status)"],
    # Whatever it was at when the connection ended.
    ("rust", "a stranger"): ["CANCELLED", "INTERNAL", "UNAVAILABLE", "UNKNOWN"],
    ("java", "a stranger"): ["INTERNAL", "UNAVAILABLE"],
}
# tonic gives up the first call after a GOAWAY while others are under way, and has no way to wait for a connection; a call
# that meets the GOAWAY on its way is INTERNAL to it. Its caller has to repeat such a call, and may: that none of them has
# arrived is checked. An INTERNAL with the bridge's details is none of them.
REPEATS = {"rust": ["CANCELLED", "INTERNAL", "UNAVAILABLE"]}

# What the matrix shows: a letter for each scenario, client and transport.
SEEN = {}
SCENARIOS = {}


def see(name, client, transport, letter=None):
    SEEN[name, client, transport] = letter or transport[0].lower()


def tearDownModule():
    """Prints the matrix."""
    for client, name in CANNOT:
        see(name, client, "", "-")
    print("\n\np plaintext, t TLS, m mTLS, u Unix socket; r if repeated, - cannot, ! failed\n")
    print(f"{'':42}" + "".join(f"{client:8}" for client in MAKES))
    for name in dict.fromkeys(name for name, _, _ in SEEN):
        row = {client: "" for client in MAKES}
        for key, letter in SEEN.items():
            if key[0] == name:
                row[key[1]] += letter
        print(f"{name:42}" + "".join(f"{''.join(sorted(cell, key='ptmur-!'.index)):8}" for cell in row.values()))
    print()
    for (client, name), why in CANNOT.items():
        print(f"- {client}, {name}: {why}")


def scenario(name):
    def keep(function):
        SCENARIOS[name] = function
        return function
    return keep


class Seat:
    """A client at a transport, its bridge, and the Atoti behind it."""

    def __init__(self, test, client, transport):
        self.test, self.name, self.transport = test, client, transport
        self.atoti, self.bridge = test.atotis[transport], test.bridges[transport]
        self.client = MAKES[client](client, test.transports[transport]).started()
        self.count = 0

    def start(self, do, authorization=USER, **asked):
        """A call with a login and an id of its own."""
        self.count += 1
        asked = {"authorization": authorization, "timeout_ms": 1000 * int(PATIENCE)} | asked
        asked.setdefault("request_id", f"{self.name}-{self.transport.replace(' ', '')}-{self.count}-{time.time_ns()}")
        call = self.client.start(do, **{name: value for name, value in asked.items() if value is not None})
        call.request_id = asked["request_id"]
        return call

    def succeeds(self, do, messages, **asked):
        call = self.start(do, **asked).done()
        self.test.assertEqual((call.code, call.messages), ("OK", messages), call)
        if do not in ["Health", "Reflection"]:
            self.test.assertEqual(call.end["answered"], call.request_id)
        return call

    def fails(self, do, code, **asked):
        """What the details of the error say."""
        call = self.start(do, **asked).done()
        self.test.assertEqual((call.code, call.messages), (code, []), call)
        self.test.assertEqual(call.end.get("domain"), "atoti-grpc-bridge", call)
        self.test.assertEqual(call.end.get("request"), call.request_id, call)
        return call.end

    def own_way(self, what, code):
        return OWN_WAY.get((self.name, what), [code])

    def requests(self):
        """What calls have made of Atoti: the bridge itself asks for its versions now and then."""
        return [request for request in self.atoti.requests() if request["target"] != "/versions/rest"]

    def patches(self):
        return [request for request in self.requests() if request["method"] == "PATCH"]

    def peer(self, call):
        """The connection that a call came by."""
        return self.bridge.call_ended(call.request_id).get("peer")


@scenario("CancelQuery")
def _(seat):
    query = seat.atoti.start_query(username="ada")
    call = seat.succeeds("CancelQuery", [f"CANCEL_OUTCOME_CANCELLED {query} QUERY_STATUS_CANCELLED"],
                         query_id=query, wait=10)
    record = seat.bridge.audit(call.request_id)
    seat.test.assertEqual((record["code"], record["outcome"], record["query_id"]),
                          ("OK", "CANCEL_OUTCOME_CANCELLED", query))
    seat.test.assertEqual(record.get("caller.certificate"), CALLER if seat.transport == "mTLS" else None, record)


@scenario("CancelQueries")
def _(seat):
    stubborn, *others = [seat.atoti.start_query(username="bulk") for _ in range(3)]
    seat.atoti.inject({"status": {"code": 500}}, method="PATCH", path=stubborn)
    call = seat.start("CancelQueries", user="bulk", wait=10).done()
    expected = [f"{stubborn} CANCEL_OUTCOME_UNSPECIFIED BACKEND_ERROR"]
    expected += [f"{query} CANCEL_OUTCOME_CANCELLED " for query in others]
    seat.test.assertEqual((call.code, sorted(call.messages)), ("OK", sorted(expected)), call)
    seat.atoti.reset()
    seat.succeeds("CancelQueries", [f"{stubborn} CANCEL_OUTCOME_CANCELLED "], user="bulk", wait=10)


@scenario("CancelAllQueries")
def _(seat):
    queries = {seat.atoti.start_query() for _ in range(2)}
    seat.succeeds("CancelAllQueries", ["CANCEL_OUTCOME_CANCELLED 0"], wait=10)
    seat.test.assertFalse(queries & set(seat.atoti.running()))


@scenario("GetQuery")
def _(seat):
    query = seat.atoti.start_query(username="ada")
    seat.succeeds("GetQuery", [f"{query} QUERY_STATUS_RUNNING QUERY_TYPE_MDX ada"], query_id=query)


@scenario("ListQueries")
def _(seat):
    user = f"lists-{time.time_ns()}"
    first, second, third = [seat.atoti.start_query(username=user) for _ in range(3)]
    seat.succeeds("ListQueries", [f"3 {third} {second}", f"3 {first}"], user=user)


@scenario("WatchQuery")
def _(seat):
    query = seat.atoti.start_query(runsMilliseconds=700, outcome="FAILED")
    seat.succeeds("WatchQuery", [f"{query} QUERY_STATUS_RUNNING", f"{query} QUERY_STATUS_FAILED"], query_id=query)


@scenario("GetQueryPlan")
def _(seat):
    query = seat.atoti.start_query()
    call = seat.start("GetQueryPlan", query_id=query).done()
    seat.test.assertEqual(call.code, "OK", call)
    [plan] = call.messages
    seat.test.assertTrue(plan.startswith("["), plan)


@scenario("DeleteQuery")
def _(seat):
    query = seat.atoti.start_query(runsMilliseconds=0)
    eventually("its end", lambda: query not in seat.atoti.running())
    seat.test.assertEqual(seat.fails("DeleteQuery", "PERMISSION_DENIED", query_id=query)["reason"],
                          "BACKEND_PERMISSION_DENIED")
    seat.succeeds("DeleteQuery", ["deleted"], query_id=query, authorization=ADMIN)
    seat.fails("GetQuery", "NOT_FOUND", query_id=query)


@scenario("DeleteQueries")
def _(seat):
    query = seat.atoti.start_query(username="deleted", runsMilliseconds=0)
    eventually("its end", lambda: query not in seat.atoti.running())
    seat.succeeds("DeleteQueries", ["deleted"], user="deleted", authorization=ADMIN)
    seat.fails("GetQuery", "NOT_FOUND", query_id=query)
    told = seat.fails("DeleteQueries", "INVALID_ARGUMENT", authorization=ADMIN)
    seat.test.assertEqual((told["reason"], told["field"]), ("EMPTY_FILTER", "filter"))


@scenario("GetServerInfo")
def _(seat):
    call = seat.start("GetServerInfo").done()
    seat.test.assertEqual(call.code, "OK", call)
    [info] = call.messages
    seat.test.assertRegex(info, r"^true CREDENTIALS_STATUS_ACCEPTED \d+\.\d+\.\d+")


@scenario("NOT_FOUND and its details")
def _(seat):
    told = seat.fails("CancelQuery", "NOT_FOUND", query_id="42")
    seat.test.assertEqual((told["reason"], told["resource"], told["requestSent"], told["retryable"]),
                          ("QUERY_NOT_FOUND", "42", "true", "false"))


@scenario("INVALID_ARGUMENT and its details")
def _(seat):
    told = seat.fails("CancelQuery", "INVALID_ARGUMENT", query_id="../admin")
    seat.test.assertEqual((told["reason"], told["field"], told["requestSent"]),
                          ("INVALID_QUERY_ID", "query_id", "false"))
    seat.test.assertEqual(seat.requests(), [])


@scenario("UNAUTHENTICATED without a login")
def _(seat):
    told = seat.fails("CancelQuery", "UNAUTHENTICATED", query_id="42", authorization=None)
    seat.test.assertEqual(told["reason"], "BACKEND_UNAUTHENTICATED")


@scenario("OVERLOADED, and when to come back")
def _(seat):
    query = seat.atoti.start_query()
    seat.atoti.inject({"delay": {"milliseconds": 1500}}, method="GET")
    calls = [seat.start("GetQuery", query_id=query) for _ in range(6)]
    refused = [call for call in calls if call.code != "OK"]
    seat.test.assertIn(len(refused), range(1, 6), calls)
    for call in refused:
        end = call.end
        seat.test.assertEqual((end["code"], end["reason"], end["requestSent"], end["retryable"]),
                              ("RESOURCE_EXHAUSTED", "OVERLOADED", "false", "true"))
        seat.test.assertEqual((end["retry_ms"], end.get("pushback")), ("100", "100"), end)


@scenario("a deadline")
def _(seat):
    query = seat.atoti.start_query()
    seat.atoti.inject("hang", method="PATCH")
    began = time.monotonic()
    call = seat.start("CancelQuery", query_id=query, timeout_ms=1000).done()
    took = time.monotonic() - began
    seat.test.assertIn(call.code, seat.own_way("a deadline", "DEADLINE_EXCEEDED"), call)
    seat.test.assertTrue(0.9 < took < 5, took)
    # Whose clock is first decides what the bridge has seen: its own, or a client that resets its call.
    seen = seat.bridge.call_ended(call.request_id)["rpc.response.status_code"]
    seat.test.assertIn(seen, ["DEADLINE_EXCEEDED", "CANCELLED"])
    time.sleep(0.5)
    seat.test.assertEqual(len(seat.patches()), 1)


@scenario("a cancel of the call")
def _(seat):
    query = seat.atoti.start_query()
    seat.atoti.inject({"delay": {"milliseconds": 700}}, method="PATCH")
    call = seat.start("CancelQuery", query_id=query)
    eventually("the cancel at Atoti", seat.patches)
    seat.client.stop(call)
    seat.test.assertIn(call.code, seat.own_way("a cancel", "CANCELLED"), call)
    seat.test.assertEqual(seat.bridge.call_ended(call.request_id)["rpc.response.status_code"], "CANCELLED")
    # What has been sent is carried to its end.
    record = seat.bridge.audit(call.request_id)
    seat.test.assertEqual((record["code"], record["caller_waited"]), ("OK", False), record)
    eventually("the query's end", lambda: query not in seat.atoti.running())


@scenario("a cancel of a stream")
def _(seat):
    query = seat.atoti.start_query()
    call = seat.start("WatchQuery", query_id=query).begun()
    seat.client.stop(call)
    seat.test.assertIn(call.code, seat.own_way("a cancel", "CANCELLED"), call)
    seat.test.assertEqual(call.messages, [f"{query} QUERY_STATUS_RUNNING"])
    seat.test.assertEqual(seat.bridge.call_ended(call.request_id)["rpc.response.status_code"], "CANCELLED")
    seat.test.assertIn(query, seat.atoti.running())


@scenario("a header of 20 KiB")
def _(seat):
    query = seat.atoti.start_query(username="ada")
    seat.succeeds("GetQuery", [f"{query} QUERY_STATUS_RUNNING QUERY_TYPE_MDX ada"], query_id=query, pad=20 * 1024)


@scenario("a large header spares its neighbours")
def _(seat):
    query = seat.atoti.start_query(cancelLatencyMilliseconds=0)
    seat.atoti.inject({"delay": {"milliseconds": 2000}}, method="PATCH")
    neighbour = seat.start("CancelQuery", query_id=query)
    eventually("the cancel at Atoti", seat.patches)
    call = seat.start("GetQuery", query_id=query, pad=70 * 1024).done()
    seat.test.assertIn(call.code, seat.own_way("a large header", "UNKNOWN"), call)
    seat.test.assertIsNone(neighbour.end, "it is under way yet")
    seat.test.assertEqual(neighbour.code, "OK", neighbour)
    after = seat.start("GetQuery", query_id=query).done()
    seat.test.assertEqual(after.code, "OK", after)
    seat.test.assertEqual(seat.peer(after), seat.peer(neighbour), "it is the same connection")


@scenario("health")
def _(seat):
    for service in ["", SERVICE]:
        seat.succeeds("Health", ["SERVING"], service=service, authorization=None)
    call = seat.start("Health", service="unknown", authorization=None).done()
    seat.test.assertEqual((call.code, call.end["reason"]), ("NOT_FOUND", "UNKNOWN_HEALTH_NAME"), call)


def reflection(version):
    @scenario(f"reflection {version}")
    def _(seat):
        call = seat.start("Reflection", version=version, authorization=None).done()
        seat.test.assertEqual(call.code, "OK", call)
        seat.test.assertIn(SERVICE, call.messages)
        seat.test.assertIn(f"grpc.reflection.{version}.ServerReflection", call.messages)


reflection("v1")
reflection("v1alpha")


class Matrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
        server = ours.issue("server", "DNS:localhost,IP:127.0.0.1")
        client = ours.issue("client", f"DNS:{CALLER}")
        tls = [f"--tls-cert-file={server[0]}", f"--tls-key-file={server[1]}"]
        socket = f"unix:{folder}/bridge.sock"

        cls.atotis, cls.bridges = {}, {}
        cls.addClassCleanup(cls.end_all)
        for transport, (arguments, listen) in {
            "plaintext": ([], "127.0.0.1:0"),
            "TLS": (tls, "127.0.0.1:0"),
            "mTLS": ([*tls, f"--tls-client-ca-file={ours.ca}"], "127.0.0.1:0"),
            "Unix socket": ([], socket),
        }.items():
            cls.atotis[transport] = Simulator()
            # Few places, so that they are soon taken.
            cls.bridges[transport] = Bridge(
                cls.atotis[transport].url, "--max-in-flight=4", "--allow-query-plan=true", *arguments, listen=listen)
        by_name = {name: made.address.replace("127.0.0.1", "localhost") for name, made in cls.bridges.items()}
        cls.transports = {
            "plaintext": Transport(cls.bridges["plaintext"].address),
            # Certificates are for a name, and for an address.
            "TLS": Transport(by_name["TLS"], ours.ca),
            "mTLS": Transport(cls.bridges["mTLS"].address, ours.ca, *client),
            "Unix socket": Transport(socket),
        }
        cls.strangers = {
            "TLS with another authority": Transport(by_name["TLS"], theirs.ca),
            "mTLS without a certificate": Transport(cls.bridges["mTLS"].address, ours.ca),
            "mTLS with a stranger's certificate": Transport(
                cls.bridges["mTLS"].address, ours.ca, *theirs.issue("client", f"DNS:{CALLER}")),
            "plaintext where TLS is spoken": Transport(cls.bridges["TLS"].address),
        }

    @classmethod
    def tearDownClass(cls):
        codes = cls.end_all()
        assert set(codes) == {0}, f"all end well when told to: {codes}"

    @classmethod
    def end_all(cls):
        programs = [*cls.bridges.values(), *cls.atotis.values()]
        return [program.stop() for program in programs if program.process.returncode is None]

    def see(self, client):
        """Every scenario over every transport, the transports beside each other."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for failures in pool.map(lambda transport: self.see_over(client, transport), TRANSPORTS):
                for transport, name, failure in failures:
                    with self.subTest(transport, scenario=name):
                        raise failure

    def test_strangers_are_refused_and_others_served_on(self):
        """Certificates that do not fit, on either side, and none at all."""

        def all_of(client):
            asked = []
            for name, transport in self.strangers.items():
                caller = MAKES[client](client, transport)
                request_id = f"stranger-{client}"
                call = caller.ask("GetServerInfo", authorization=USER, request_id=request_id, timeout_ms=10_000)
                asked.append((client, name, call))
                caller.close()
            return asked

        with concurrent.futures.ThreadPoolExecutor() as pool:
            asked = [one for some in pool.map(all_of, MAKES) for one in some]
        for client, name, call in asked:
            with self.subTest(client, stranger=name):
                see(name, client, name, "!")
                self.assertIn(call.code, OWN_WAY.get((client, "a stranger"), ["UNAVAILABLE"]), call)
                self.assertEqual((call.messages, call.end.get("domain")), ([], None), call)
                see(name, client, name)
        for transport in ["TLS", "mTLS"]:
            lines = self.bridges[transport].calls_ended()
            self.assertEqual([line for line in lines if line["request_id"].startswith("stranger-")], [])
            seat = Seat(self, "go", transport)
            SCENARIOS["GetServerInfo"](seat)
            seat.client.close()

    def see_over(self, client, transport):
        failures, seat = [], Seat(self, client, transport)
        for name, run in SCENARIOS.items():
            if (client, name) in CANNOT:
                continue
            seat.atoti.reset()
            try:
                see(name, client, transport, "!")
                run(seat)
                see(name, client, transport)
            except Exception as failure:
                failures.append((transport, name, failure))
        seat.atoti.reset()
        code = seat.client.close()
        return failures if code == 0 else [*failures, (transport, "the client ends well", AssertionError(code))]


class Load:
    """Calls of every client that has a channel, one after the other and beside each other, for a while."""

    def __init__(self, atoti, address, seconds):
        self.seconds, self.unanswered = seconds, []
        self.calls, self.repeated = {client: [] for client in CHANNELS}, {client: [] for client in CHANNELS}
        self.atoti, self.fast, self.slow = atoti, atoti.start_query(), atoti.start_query()
        atoti.inject({"delay": {"milliseconds": 200}}, path=self.slow)
        atoti.inject({"delay": {"milliseconds": 200}}, method="PATCH")
        self.clients = {client: MAKES[client](client, Transport(address)) for client in CHANNELS}

    def __enter__(self):
        for client in self.clients.values():
            client.started()
        # Short calls, and calls that take a while; the last stop a query each.
        workers = [lambda *call: self._ask(*call, self.fast), *[lambda *call: self._ask(*call, self.slow)] * 2,
                   *[self._cancel] * 2]
        self.threads = [threading.Thread(target=self._work, args=[client, f"{client}-{number}", work])
                        for client in CHANNELS for number, work in enumerate(workers)]
        for thread in self.threads:
            thread.start()
        return self

    def _ask(self, client, request_id, query, do="GetQuery"):
        return self.clients[client].ask(do, query_id=query, request_id=request_id, authorization=USER,
                                        wait_for_ready="true", timeout_ms=10_000)

    def _cancel(self, client, request_id):
        return self._ask(client, request_id, self.atoti.start_query(username="cancelled"), do="CancelQuery")

    def _work(self, client, worker, work):
        began, count = time.monotonic(), 0
        while time.monotonic() < began + self.seconds:
            count += 1
            request_id = f"{worker}-{count}"
            try:
                call = work(client, request_id)
            except Exception as failure:
                self.unanswered.append((request_id, failure))
                return
            time.sleep(0.01)
            if call.code in REPEATS.get(client, []) and "domain" not in call.end:
                self.repeated[client].append(request_id)
            else:
                self.calls[client].append(call)

    def __exit__(self, *_):
        for thread in self.threads:
            thread.join()
        for client in self.clients.values():
            client.close()

    def cancels(self):
        """How often Atoti was asked to stop each query."""
        patched = [request["target"] for request in self.atoti.requests() if request["method"] == "PATCH"]
        return set(collections.Counter(patched).values())


class Goodbyes(unittest.TestCase):
    """GOAWAY loses no call."""

    def setUp(self):
        self.atoti = Simulator()
        self.addCleanup(self.atoti.stop)

    def bridge(self, *arguments, **settings):
        made = Bridge(self.atoti.url, *arguments, **settings)
        self.addCleanup(lambda: made.process.returncode is None and made.stop())
        return made

    def check(self, name, load, bridges, more):
        """None was lost; `more` checks the lines that the bridges have of a client's calls."""
        self.assertEqual(load.unanswered, [])
        self.assertEqual(load.cancels(), {1}, "none is repeated unasked")
        for client in CHANNELS:
            lines = [[line for line in bridge.calls_ended() if line["request_id"].startswith(f"{client}-")]
                     for bridge in bridges]
            with self.subTest(client, scenario=name):
                see(name, client, "plaintext", "!")
                self.assertEqual([call for call in load.calls[client] if call.code != "OK"], [])
                self.assertGreater(len(load.calls[client]), 40)
                arrived = {line["request_id"] for some in lines for line in some}
                self.assertEqual(arrived & set(load.repeated[client]), set(), "what is repeated has never arrived")
                more(lines)
                see(name, client, "plaintext", "r" if load.repeated[client] else None)

    def test_connections_that_reach_their_age(self):
        bridge = self.bridge("--max-connection-age=1s")
        with Load(self.atoti, bridge.address, seconds=5) as load:
            pass
        self.check("connections that reach their age", load, [bridge], lambda lines: self.assertGreaterEqual(
            len({line["peer"] for line in lines[0]}), 4, "connections"))

    def test_a_bridge_that_is_restarted(self):
        """Its place is taken by another one at the same address."""
        first = self.bridge(drain_delay="500ms")
        with Load(self.atoti, first.address, seconds=5) as load:
            time.sleep(1)
            first.process.terminate()
            first.json("its port to be free", lambda line: line.get("message") == "closing connections")
            second = self.bridge(listen=first.address)
            self.assertEqual(first.ended(), 0)
        self.check("a restart", load, [first, second], lambda lines: self.assertGreater(min(map(len, lines)), 10))


def fill():
    for client in MAKES:
        setattr(Matrix, f"test_{client}", lambda self, client=client: self.see(client))


fill()
