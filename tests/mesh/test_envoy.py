"""Envoy, set up as Istio does, in front of two bridges: what callers see, and what Atoti does."""

import time

import grpc

from atoti.queryhistory.v1 import query_history_pb2 as pb
from programs import PATIENCE, eventually
from proxies import CALLER, LOGIN, Case, Envoy

# As if Envoy kept no time of its own: what the bridge answers is what decides.
NO_TIMER = {"grpc_timeout_header_max: 0s": ""}
# As if it asked nobody for health.
NO_HEALTH_CHECKS = {"interval: 0.5s": "interval: 600s"}


class Calls(Case):
    PROXY = Envoy

    def test_a_cancel_reaches_atoti_once_and_the_caller_is_on_record(self):
        self.up()
        query = self.atoti.start_query()
        answer, _ = self.cancel(query, ("x-request-id", "mesh-1"), reason="mesh")
        self.assertEqual(answer.outcome, pb.CANCEL_OUTCOME_REQUESTED)
        self.assertEqual(self.patches(), {query: 1})

        [record] = eventually("an audit record", lambda: [r for replica in self.replicas for r in replica.audit()])
        self.assertEqual((record["request_id"], record["query_id"], record["code"]), ("mesh-1", query, "OK"))
        self.assertEqual((record["caller.certificate"], record["caller.claimed_user"]), (CALLER, "user"))
        line = self.proxy.logged("mesh-1")
        self.assertEqual((line["grpc_status"], line["attempts"]), ("OK", 1), line)
        self.assertIn(line["upstream_host"], {replica.address for replica in self.replicas})

    def test_a_failure_keeps_its_details_and_its_pushback(self):
        self.up()
        query = self.atoti.start_query()
        self.atoti.inject({"status": {"code": 429, "headers": {"Retry-After": "7"}}}, method="PATCH")
        call, details = self.failure(query, ("x-request-id", "mesh-429"))
        self.assertEqual(call.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(details["ErrorInfo"].reason, "BACKEND_RATE_LIMITED")
        self.assertEqual(details["ErrorInfo"].metadata["queryId"], query)
        self.assertEqual(details["RequestInfo"].request_id, "mesh-429")
        self.assertEqual(details["RetryInfo"].retry_delay.ToSeconds(), 7)
        self.assertEqual(dict(call.trailing_metadata())["grpc-retry-pushback-ms"], "7000")
        # RESOURCE_EXHAUSTED is not among the codes that a mesh repeats.
        self.assertEqual(self.proxy.logged("mesh-429")["attempts"], 1)
        self.assertEqual(self.patches(), {query: 1})

    def test_a_deadline_is_not_repeated(self):
        for who, changes in [("the bridge alone keeps time", NO_TIMER), ("Envoy keeps time too", None)]:
            with self.subTest(who):
                self.up(changes=changes)
                self.atoti.inject("hang", method="PATCH")
                query = self.atoti.start_query()
                call, _ = self.failure(query, timeout=0.3)
                self.assertEqual(call.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
                # grpcio keeps the time itself. What comes to a caller that does not:
                other = self.atoti.start_query()
                answer = self.without_timer(other, "300m", "mesh-late")
                self.assertEqual(answer["grpc-status"], str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0]), answer)
                line = self.proxy.logged("mesh-late")
                self.assertEqual((line["grpc_status"], line["attempts"]), ("DEADLINE_EXCEEDED", 1), line)
                # A repeat would have come at once.
                time.sleep(1)
                self.assertEqual(self.patches(), {query: 1, other: 1})
                self.stop_all()

    def test_atoti_too_slow_for_the_bridge_is_not_repeated(self):
        self.up("--upstream-timeout=300ms")
        self.atoti.inject("hang", method="PATCH")
        query = self.atoti.start_query()
        call, details = self.failure(query, ("x-request-id", "mesh-slow"))
        self.assertEqual(call.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertEqual(details["ErrorInfo"].reason, "BACKEND_TIMEOUT")
        self.assertEqual(self.proxy.logged("mesh-slow")["attempts"], 1)
        self.assertEqual(self.patches(), {query: 1})

    def test_a_bridge_that_does_not_reach_atoti_is_made_up_for_by_the_other(self):
        self.up(upstreams=(None, "http://127.0.0.1:1"))
        attempts = []
        for number in range(20):
            query = self.atoti.start_query()
            self.cancel(query, ("x-request-id", f"mesh-{number}"))
            attempts.append(self.proxy.logged(f"mesh-{number}")["attempts"])
        self.assertEqual(set(attempts), {1, 2}, "some calls came to the one without Atoti first")
        self.assertEqual(set(self.patches().values()), {1})

    def test_a_bridge_that_is_killed_is_made_up_for_by_the_other(self):
        self.up(changes=NO_HEALTH_CHECKS)
        self.replicas[0].kill()
        attempts = []
        for number in range(20):
            query = self.atoti.start_query()
            self.cancel(query, ("x-request-id", f"mesh-{number}"))
            attempts.append(self.proxy.logged(f"mesh-{number}")["attempts"])
        self.assertEqual(set(attempts), {1, 2}, "some calls came to the dead one first")
        self.assertEqual(set(self.patches().values()), {1})

    def test_a_bridge_that_drains_gets_no_calls(self):
        self.up(drain_delay="10s")
        leaving, staying = self.replicas
        leaving.bridge.process.terminate()
        eventually("Envoy to notice", lambda: not self.proxy.hosts()[leaving.address]["healthy"])
        self.assertTrue(self.proxy.hosts()[staying.address]["healthy"])
        for number in range(50):
            self.cancel(self.atoti.start_query(), ("x-request-id", f"mesh-{number}"))
            line = self.proxy.logged(f"mesh-{number}")
            self.assertEqual((line["upstream_host"], line["attempts"]), (staying.address, 1))
        self.assertEqual(leaving.audit(), [])

    def test_watches_and_bulk_cancels_stream(self):
        self.up()
        query = self.atoti.start_query(username="watched")
        seen = self.stub.WatchQuery(pb.WatchQueryRequest(query_id=query), timeout=PATIENCE, metadata=LOGIN)
        self.assertEqual(next(seen).query.status, pb.QUERY_STATUS_RUNNING)
        self.cancel(query)
        self.assertEqual([answer.query.status for answer in seen], [pb.QUERY_STATUS_CANCELLED])

        queries = {self.atoti.start_query(username="many") for _ in range(20)}
        request = pb.CancelQueriesRequest()
        request.filter.usernames.append("many")
        request.wait.FromSeconds(10)
        answers = list(self.stub.CancelQueries(request, timeout=PATIENCE, metadata=LOGIN))
        self.assertEqual({answer.query.query_id for answer in answers}, queries)
        self.assertEqual({answer.outcome for answer in answers}, {pb.CANCEL_OUTCOME_CANCELLED})


class Outliers(Case):
    PROXY = Envoy

    def calls(self, count=60):
        for _ in range(count):
            self.cancel(self.atoti.start_query())

    def test_istios_share_of_a_tenth_ejects_none_of_two(self):
        self.up(changes=NO_HEALTH_CHECKS)
        self.replicas[0].kill()
        self.calls()
        self.assertFalse(self.proxy.hosts()[self.replicas[0].address]["ejected"])

    def test_a_dead_bridge_is_ejected_where_half_may_be(self):
        self.up(changes=NO_HEALTH_CHECKS | {"max_ejection_percent: 10": "max_ejection_percent: 50"})
        dead = self.replicas[0]
        dead.kill()
        self.calls()
        self.assertTrue(self.proxy.hosts()[dead.address]["ejected"], self.proxy.hosts())
        self.cancel(self.atoti.start_query(), ("x-request-id", "mesh-after"))
        self.assertEqual(self.proxy.logged("mesh-after")["attempts"], 1)
