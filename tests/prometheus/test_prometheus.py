"""A real Prometheus scrapes real bridges that have seen everything: every panel and every rule then has something to
look at. What a query selects must be there; a name or a label that the bridge does not have fails here."""

import json
import math
import pathlib
import re
import secrets
import socket
import subprocess
import tempfile
import time
import unittest

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atoti.queryhistory.v1 import query_history_pb2 as pb
from atoti.queryhistory.v1 import query_history_pb2_grpc
from programs import PATIENCE, SERVICE, USER, Simulator, eventually
from watched import DASHBOARD, Prometheus, Watched, promtool, selectors, targets

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
LOGIN = [("authorization", USER)]
ROUNDS = 5
# Written by Prometheus, not by the bridge.
NOT_OURS = {"up", "ALERTS"}


def closed_port():
    """A port where nobody listens, and nobody can as long as the socket lives."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken, taken.getsockname()[1]


def certificate(folder):
    """A certificate that ends tomorrow, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", key, "-out", cert,
        ],
        check=True, capture_output=True,
    )
    return cert, key


class Traffic:
    """Calls of all kinds, with all kinds of ends."""

    def __init__(self, atoti, busy, sealed, cert):
        self.atoti = atoti
        self.sealed = sealed
        self.channel = grpc.insecure_channel(busy.address)
        self.stub = query_history_pb2_grpc.QueryHistoryServiceStub(self.channel)
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        self.sealed_channel = grpc.secure_channel(sealed.address, credentials)
        self.sealed_stub = query_history_pb2_grpc.QueryHistoryServiceStub(self.sealed_channel)
        self.query = atoti.start_query(username="ada")

    def close(self):
        self.channel.close()
        self.sealed_channel.close()

    def get(self, stub=None, query=None, metadata=LOGIN):
        request = pb.GetQueryRequest(query_id=query or self.query)
        return (stub or self.stub).GetQuery.future(request, timeout=PATIENCE, metadata=metadata)

    def cancel(self, query, stub=None):
        request = pb.CancelQueryRequest(query_id=query)
        return (stub or self.stub).CancelQuery.future(request, timeout=PATIENCE, metadata=LOGIN)

    def expect(self, name, *calls):
        for call in calls:
            code = call.code()
            assert code == getattr(grpc.StatusCode, name), f"{code} {call.details()}, not {name}"

    def round(self):
        self.well()
        self.wrong()
        self.crowd()
        self.no_atoti()

    def well(self):
        self.expect("OK", *[self.get() for _ in range(3)])
        self.expect("OK", self.cancel(self.atoti.start_query()))
        request = pb.CancelQueriesRequest()
        request.filter.usernames.append("many")
        for _ in range(3):
            self.atoti.start_query(username="many")
        assert len(list(self.stub.CancelQueries(request, timeout=PATIENCE, metadata=LOGIN))) == 3
        self.expect("OK", self.stub.ListQueries.future(pb.ListQueriesRequest(), timeout=PATIENCE, metadata=LOGIN))
        info = self.stub.GetServerInfo.future(pb.GetServerInfoRequest(), timeout=PATIENCE, metadata=LOGIN)
        self.expect("OK", info)
        health = health_pb2_grpc.HealthStub(self.channel)
        self.expect("OK", health.Check.future(health_pb2.HealthCheckRequest(), timeout=PATIENCE))

    def wrong(self):
        """The callers' faults, and Atoti's."""
        self.expect("NOT_FOUND", self.cancel("42"))
        self.expect("INVALID_ARGUMENT", self.cancel("a/b"))
        self.expect("UNAUTHENTICATED", self.get(metadata=[]))
        nope = self.channel.unary_unary(f"/{SERVICE}/Nope", lambda request: request, lambda answer: answer)
        self.expect("UNIMPLEMENTED", nope.future(b"", timeout=PATIENCE))
        self.atoti.inject({"status": {"code": 500}}, path="/query/", times=1)
        self.expect("INTERNAL", self.get())
        self.atoti.inject({"status": {"code": 500}}, method="PATCH", path="/query/", times=1)
        self.expect("INTERNAL", self.cancel(self.query))
        self.atoti.inject("cut_before_head", path="/query/", times=1)
        self.expect("OK", self.get())

    def crowd(self):
        """Twelve reads where six are taken on and three have a turn at Atoti, which does not answer."""
        self.atoti.inject("hang", method="GET", path="/query/")
        # Each id once: reads of the same one need no turn of their own.
        calls = [self.get(query=str(1000 + number)) for number in range(12)]
        codes = [call.code() for call in calls]
        self.atoti.reset()
        wanted = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert set(codes) == wanted, codes

    def no_atoti(self):
        """More calls for an Atoti that is away than may be repeated."""
        self.expect("UNAVAILABLE", *[self.get(self.sealed_stub) for _ in range(20)])
        self.expect("UNAVAILABLE", self.cancel(self.query, self.sealed_stub))

    def knock(self):
        """Connections that come to nothing: one does not speak TLS, the others are too many."""
        host, port = self.sealed.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), PATIENCE) as rude:
            rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
            rude.recv(100)
        many = [socket.create_connection((host, int(port)), PATIENCE) for _ in range(8)]
        # Long enough for a scrape to see them.
        time.sleep(1.5)
        for connection in many:
            connection.close()

    def traced(self):
        """A call that its caller has traced, and the trace."""
        trace, span = secrets.token_hex(16), secrets.token_hex(8)
        self.expect("OK", self.get(metadata=[*LOGIN, ("traceparent", f"00-{trace}-{span}-01")]))
        return trace


class ARealPrometheus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        folder = pathlib.Path(folder.name)
        cert, key = certificate(folder)
        away, away_port = closed_port()
        cls.addClassCleanup(away.close)
        nowhere = f"http://127.0.0.1:{away_port}"

        cls.atoti = cls.started(Simulator())
        # Spans have nowhere to go; that they are made is enough for exemplars.
        cls.busy = cls.started(Watched(
            cls.atoti.url, "--max-in-flight=8", "--upstream-max-connections=4", "--max-deadline=2s",
            OTEL_EXPORTER_OTLP_ENDPOINT=nowhere,
        ))
        # Everything around it is in trouble: Atoti is away, the disk of its audit records full.
        cls.sealed = cls.started(Watched(
            nowhere, "--max-connections=4", f"--tls-cert-file={cert}", f"--tls-key-file={key}",
            ATOTI_BRIDGE_AUDIT_LOG="/dev/full",
        ))
        cls.leaving = cls.started(Watched(cls.atoti.url, drain_delay="8s"))
        cls.bridges = [cls.busy, cls.sealed, cls.leaving]
        cls.begin = time.time()
        cls.prometheus = cls.started(Prometheus(folder, [bridge.admin for bridge in cls.bridges]))
        # The zero before the first count: without it there is no increase.
        eventually("first scrapes", lambda: cls.scrapes() == [2.0] * 3)
        traffic = Traffic(cls.atoti, cls.busy, cls.sealed, cert)
        cls.addClassCleanup(traffic.close)
        cls.traffic = traffic

        watch = traffic.stub.WatchQuery(pb.WatchQueryRequest(query_id=traffic.query), metadata=LOGIN)
        next(watch)
        cls.leaving.process.terminate()
        for number in range(ROUNDS):
            traffic.round()
            if number == 1:
                traffic.knock()
                key.write_text("no key")
        eventually("the drain", lambda: cls.prometheus.query("max_over_time(atoti_bridge_draining[1m]) == 1"))
        cls.settle()
        watch.cancel()

    @classmethod
    def started(cls, program):
        cls.addClassCleanup(program.stop)
        return program

    @classmethod
    def scrapes(cls):
        return [min(value, 2.0) for _, value in cls.prometheus.query("count_over_time(up[1m])")]

    @classmethod
    def settle(cls):
        """Until Prometheus has seen, and its rules have computed, what has happened so far."""
        now = time.time()
        instance = f'{{instance="{cls.busy.admin}"}}'

        def seen():
            found = cls.prometheus.query(f"timestamp(up{instance})")
            records = cls.prometheus.query("timestamp(job:atoti_bridge_calls:rate5m)")
            return found and records and found[0][1] > now and records[0][1] > now + 1

        eventually("a scrape", seen)
        cls.end = time.time()

    def fill_in(self, expression):
        """As Grafana does, with all jobs and all replicas chosen."""
        instances = "|".join(bridge.admin.replace(".", "\\\\.") for bridge in self.bridges)
        for name, value in [
            ("$__rate_interval", "15s"), ("$__range", "1m"),
            ("$job", "atoti-grpc-bridge"), ("$instance", f"({instances})"),
        ]:
            expression = expression.replace(name, value)
        self.assertNotIn("$", expression)
        return expression

    def during(self, expression):
        return self.prometheus.get("query_range", query=expression, start=self.begin, end=self.end, step="1")["result"]

    def rules(self):
        return [rule for group in self.prometheus.get("rules")["groups"] for rule in group["rules"]]

    def expressions(self):
        """Every query of the dashboard and of the rules, with where it is from."""
        for panel, target in targets():
            yield panel["title"], self.fill_in(target["expr"])
        for rule in self.rules():
            yield rule["name"], rule["query"]

    def test_scrapes_are_well(self):
        found = self.prometheus.get("targets", state="active")["activeTargets"]
        self.assertEqual(len(found), 3)
        for target in found:
            address = target["labels"]["instance"]
            if address != self.leaving.admin:
                self.assertEqual((target["health"], target["lastError"]), ("up", ""))
        for bridge in (self.busy, self.sealed):
            [(_, samples)] = self.prometheus.query(f'scrape_samples_scraped{{instance="{bridge.admin}"}}')
            text, kind = bridge.metrics(OPEN_METRICS)
            self.assertTrue(kind.startswith("application/openmetrics-text"), kind)
            self.assertTrue(text.endswith("# EOF\n"))
            lines = [line for line in text.splitlines() if not line.startswith("#")]
            # Some series may be new since the last scrape.
            self.assertAlmostEqual(samples, len(lines), delta=len(lines) / 5)

    def test_promtool_has_nothing_against_the_metrics(self):
        for bridge in (self.busy, self.sealed):
            text, kind = bridge.metrics()
            self.assertTrue(kind.startswith("text/plain"), kind)
            self.assertEqual(promtool("check", "metrics", text=text), (0, ""))

    def test_every_panel_has_data(self):
        for panel, target in targets():
            with self.subTest(panel["title"], query=target["refId"]):
                result = self.during(self.fill_in(target["expr"]))
                values = [float(value) for series in result for _, value in series["values"]]
                self.assertTrue(any(map(math.isfinite, values)), f"no data: {target['expr']}")
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    self.assertTrue(any(label in series["metric"] for series in result), f"no {label}")

    def test_the_variables_of_the_dashboard_have_values(self):
        seen = 0
        for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                query = self.fill_in(variable["query"]["query"])
                [(series, label)] = re.findall(r"^label_values\((.+), (\w+)\)$", query)
                values = self.prometheus.get(f"label/{label}/values", **{"match[]": series})
                self.assertTrue(values, variable["name"])
                seen += 1
        self.assertEqual(seen, 2)

    def test_everything_that_is_selected_exists(self):
        """A metric or a label value that the bridge does not know would make a panel or an alert silent for ever."""
        seen = set()
        for where, expression in self.expressions():
            for name, braces in selectors(expression):
                seen.add(name)
                with self.subTest(where, selector=name + braces):
                    match = {"match[]": name + braces}
                    self.assertTrue(self.prometheus.get("series", **match, start=self.begin, end=self.end))
        exposed = set()
        for bridge in (self.busy, self.sealed):
            exposed |= set(re.findall(r"^(\w+)[{ ]", bridge.metrics()[0], re.MULTILINE))
        recorded = {rule["name"] for rule in self.rules() if rule["type"] == "recording"}
        self.assertEqual(seen - exposed - recorded - NOT_OURS, set())
        self.assertGreater(len(seen), 40, seen)

    def test_every_rule_is_evaluated(self):
        rules = self.rules()
        self.assertGreater(len(rules), 25)
        for rule in rules:
            with self.subTest(rule["name"]):
                self.assertEqual((rule["health"], rule.get("lastError", "")), ("ok", ""))
                self.prometheus.query(rule["query"])
                for alert in rule.get("alerts", []):
                    told = json.dumps(alert["annotations"])
                    self.assertNotRegex(told, r"error expanding|<no value>|\{\{|NaN", "templates are filled in")

    def test_trouble_raises_its_alerts(self):
        """They wait for their time (`for`), but what they wait for has come about."""
        raised = {labels["alertname"] for labels, _ in self.prometheus.query("ALERTS")}
        wanted = {
            "AtotiBridgeUpstreamDown", "AtotiBridgeRetryBudgetExhausted", "AtotiBridgeCancelsFailing",
            "AtotiBridgeShedding", "AtotiBridgeConnectionsRefused", "AtotiBridgeCertificateExpires",
            "AtotiBridgeReloadFailed", "AtotiBridgeAuditNotWritten", "AtotiBridgeSpansLost",
            "AtotiBridgeHighFailureRatio",
        }
        self.assertEqual(wanted - raised, set(), raised)
        unwanted = {
            "AtotiBridgeGone", "AtotiBridgeRestarting", "AtotiBridgePanics", "AtotiBridgeFileDescriptorsLow",
            "AtotiBridgeAcceptErrors", "AtotiBridgeAuditRecordsLost", "AtotiBridgeLogLinesDropped",
            "AtotiBridgeCredentialsRefused", "AtotiBridgeCertificateExpiresSoon",
        }
        self.assertEqual(unwanted & raised, set(), "nothing of this has happened")

    def test_what_happened_is_counted(self):
        """So that a panel's data are not the zeros of something never counted."""
        busy, sealed = f'instance="{self.busy.admin}"', f'instance="{self.sealed.admin}"'
        calls = f'rpc_server_call_duration_seconds_count{{{busy}, rpc_system_name="grpc", rpc_method'
        attempts = f"http_client_request_duration_seconds_count{{{busy}"
        for series, least in [
            (f'{calls}="{SERVICE}/GetQuery", rpc_response_status_code="OK"}}', 3 * ROUNDS),
            (f'{calls}="{SERVICE}/CancelQuery", rpc_response_status_code="OK"}}', ROUNDS),
            (f'{calls}="_OTHER", rpc_response_status_code="UNIMPLEMENTED"}}', ROUNDS),
            (f'{calls}="grpc.health.v1.Health/Check"}}', ROUNDS),
            (f'{attempts}, http_request_method="PATCH", url_template="/query/{{id}}", error_type=""}}', ROUNDS),
            (f'{attempts}, http_request_method="GET", url_template="/queries"}}', ROUNDS),
            (f'{attempts}, http_response_status_code="500", error_type="500"}}', 2 * ROUNDS),
            (f'{attempts}, http_response_status_code="", error_type!=""}}', ROUNDS),
            (f'http_client_request_duration_seconds_count{{{sealed}, error_type="connect_failed"}}', ROUNDS),
            (f'atoti_bridge_call_failures_total{{{busy}, reason="QUERY_NOT_FOUND"}}', ROUNDS),
            (f"atoti_bridge_calls_shed_total{{{busy}}}", ROUNDS),
            (f'atoti_bridge_deadlines_missed_total{{{busy}, request_sent="true"}}', ROUNDS),
            (f'atoti_bridge_deadlines_missed_total{{{busy}, request_sent="false"}}', ROUNDS),
            (f'atoti_bridge_upstream_retries_total{{{busy}, decision="made"}}', ROUNDS),
            (f'atoti_bridge_upstream_retries_total{{{sealed}, decision="no_budget"}}', 1),
            (f"atoti_bridge_audit_records_total{{{busy}}}", 3 * ROUNDS),
            (f"atoti_bridge_audit_write_errors_total{{{sealed}}}", 1),
            (f"atoti_bridge_audit_records_pending{{{sealed}}}", 1),
            (f"atoti_bridge_spans_lost_total{{{busy}}}", 1),
            (f"atoti_bridge_connections_refused_total{{{sealed}}}", 1),
            (f"atoti_bridge_tls_handshake_failures_total{{{sealed}}}", 1),
            (f'atoti_bridge_reload_failed{{{sealed}, file="tls"}}', 1),
            (f"max_over_time(atoti_bridge_watches{{{busy}}}[1m])", 1),
            (f"max_over_time(atoti_bridge_calls_in_flight{{{busy}}}[1m])", 1),
            (f"max_over_time(atoti_bridge_upstream_requests_in_flight{{{busy}}}[1m])", 1),
            (f"max_over_time(atoti_bridge_upstream_requests_waiting{{{busy}}}[1m])", 1),
            (f"atoti_bridge_calls_in_flight_limit{{{busy}}} == 8", 8),
            (f"atoti_bridge_upstream_requests_limit{{{busy}}} == 4", 4),
            (f"atoti_bridge_connections_limit{{{sealed}}} == 4", 4),
            (f"max_over_time(atoti_bridge_connections{{{sealed}}}[1m])", 2),
            (f"process_cpu_seconds_total{{{busy}}}", 0.01),
            (f"process_resident_memory_bytes{{{busy}}}", 1_000_000),
            (f"process_open_fds{{{busy}}}", 5),
            (f"process_threads{{{busy}}}", 2),
        ]:
            with self.subTest(series):
                self.assertGreaterEqual(sum(value for _, value in self.prometheus.query(series)), least)

    def test_an_exemplar_leads_to_the_trace_of_a_call(self):
        for metric, method in [
            ("rpc_server_call_duration_seconds_bucket", f"{SERVICE}/GetQuery"),
            ("http_client_request_duration_seconds_bucket", None),
        ]:
            trace = self.traffic.traced()

            def found(metric=metric, trace=trace):
                exemplars = self.prometheus.get("query_exemplars", query=metric, start=self.begin, end=time.time() + 1)
                return [
                    series["seriesLabels"] for series in exemplars
                    for exemplar in series["exemplars"] if exemplar["labels"].get("trace_id") == trace
                ]

            series = eventually(f"the exemplar {trace}", found)
            if method:
                self.assertEqual({labels["rpc_method"] for labels in series}, {method})

    def test_panels_with_exemplars_have_some(self):
        asked = [(panel, target) for panel, target in targets() if target.get("exemplar")]
        self.assertGreater(len(asked), 3)
        for panel, target in asked:
            with self.subTest(panel["title"]):
                found = self.prometheus.get(
                    "query_exemplars", query=self.fill_in(target["expr"]), start=self.begin, end=time.time() + 1
                )
                self.assertTrue(found)
