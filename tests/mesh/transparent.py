"""What must come through any proxy unchanged."""

import time

import grpc

from atoti.queryhistory.v1 import query_history_pb2 as pb
from programs import PATIENCE, eventually
from proxies import CALLER, LOGIN


class Transparent:
    """Tests for a `Case` to mix in."""

    def test_a_cancel_reaches_atoti_once_and_the_caller_is_on_record(self):
        self.up()
        query = self.atoti.start_query()
        answer, call = self.cancel(query, ("x-request-id", "mesh-1"), reason="mesh")
        self.assertEqual(answer.outcome, pb.CANCEL_OUTCOME_REQUESTED)
        self.assertEqual(dict(call.initial_metadata())["x-request-id"], "mesh-1")
        self.assertEqual(self.patches(), {query: 1})
        [record] = eventually("an audit record", lambda: [r for replica in self.replicas for r in replica.audit()])
        self.assertEqual((record["request_id"], record["query_id"], record["code"]), ("mesh-1", query, "OK"))
        self.assertEqual((record["caller.certificate"], record["caller.claimed_user"]), (CALLER, "user"))

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
        self.assertEqual(self.patches(), {query: 1})

    def test_watches_and_bulk_cancels_stream(self):
        self.up()
        query = self.atoti.start_query(username="watched")
        seen = self.stub.WatchQuery(pb.WatchQueryRequest(query_id=query), timeout=PATIENCE, metadata=LOGIN)
        # It comes at once, and not only with the end of the stream.
        self.assertEqual(next(seen).query.status, pb.QUERY_STATUS_RUNNING)
        self.cancel(query)
        self.assertEqual([answer.query.status for answer in seen], [pb.QUERY_STATUS_CANCELLED])
        self.assertEqual(seen.code(), grpc.StatusCode.OK)

        queries = {self.atoti.start_query(username="many") for _ in range(20)}
        request = pb.CancelQueriesRequest()
        request.filter.usernames.append("many")
        request.wait.FromSeconds(10)
        answers = list(self.stub.CancelQueries(request, timeout=PATIENCE, metadata=LOGIN))
        self.assertEqual({answer.query.query_id for answer in answers}, queries)
        self.assertEqual({answer.outcome for answer in answers}, {pb.CANCEL_OUTCOME_CANCELLED})

    def test_a_deadline_is_not_repeated(self):
        self.up()
        self.deadline_is_kept_once()

    def test_atoti_too_slow_for_the_bridge_is_not_repeated(self):
        self.up("--upstream-timeout=300ms")
        self.atoti.inject("hang", method="PATCH")
        query = self.atoti.start_query()
        call, details = self.failure(query)
        self.assertEqual(call.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertEqual(details["ErrorInfo"].reason, "BACKEND_TIMEOUT")
        self.assertEqual(self.patches(), {query: 1})

    def test_a_bridge_that_is_killed_is_made_up_for_by_the_other(self):
        self.up()
        self.replicas[0].kill()
        queries = [self.atoti.start_query() for _ in range(20)]
        for query in queries:
            self.cancel(query)
        self.assertEqual(self.patches(), dict.fromkeys(queries, 1))

    def test_with_no_bridge_left_it_is_unavailable(self):
        self.up()
        for replica in self.replicas:
            replica.kill()
        call, _ = self.failure("42")
        self.assertEqual(call.code(), grpc.StatusCode.UNAVAILABLE)

    def deadline_is_kept_once(self):
        """grpcio keeps its deadlines itself; curl does not, and shows what comes to a caller that relies on others."""
        self.atoti.inject("hang", method="PATCH")
        query, other = self.atoti.start_query(), self.atoti.start_query()
        call, _ = self.failure(query, timeout=0.3)
        self.assertEqual(call.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        answer = self.without_timer(other, "300m", "mesh-late")
        self.assertEqual(answer["grpc-status"], str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0]), answer)
        # A repeat would have come at once.
        time.sleep(1)
        self.assertEqual(self.patches(), {query: 1, other: 1})
