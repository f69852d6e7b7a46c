"""grpcio, as a service in Python uses it: with code generated from the published definition."""

import time

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from atoti.queryhistory.v1 import query_history_pb2 as pb
from atoti.queryhistory.v1 import query_history_pb2_grpc
from programs import PATIENCE, SERVICE, USER, Case, eventually


class Grpcio(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.channel = grpc.insecure_channel(cls.bridge.address)
        cls.stub = query_history_pb2_grpc.QueryHistoryServiceStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        super().tearDownClass()

    def cancel(self, query, *metadata, timeout=PATIENCE, login=USER, **fields):
        request = pb.CancelQueryRequest(query_id=query, **fields)
        metadata = [("authorization", login), *metadata] if login else list(metadata)
        return self.stub.CancelQuery.with_call(request, timeout=timeout, metadata=metadata)

    def failure(self, query, *metadata, **arguments):
        """The code of a failure, and its details by their type."""
        with self.assertRaises(grpc.RpcError) as raised:
            self.cancel(query, *metadata, **arguments)
        details = {}
        status = rpc_status.from_call(raised.exception)
        for packed in status.details if status else []:
            detail = getattr(error_details_pb2, packed.TypeName().rsplit(".", 1)[-1])()
            self.assertTrue(packed.Unpack(detail))
            details[type(detail).__name__] = detail
        return raised.exception.code(), details

    def test_cancels_a_query_and_sees_it_stop(self):
        query = self.atoti.start_query(username="ada")
        request = pb.CancelQueryRequest(query_id=query)
        request.wait.FromSeconds(10)
        answer = self.stub.CancelQuery(request, timeout=PATIENCE, metadata=[("authorization", USER)])
        self.assertEqual(answer.outcome, pb.CANCEL_OUTCOME_CANCELLED)
        self.assertEqual(answer.query.status, pb.QUERY_STATUS_CANCELLED)
        self.assertEqual(answer.query.username, "ada")
        self.assertGreater(answer.query.end_time.ToNanoseconds(), answer.query.start_time.ToNanoseconds())
        self.assertNotIn(query, self.atoti.running())

    def test_without_waiting_it_is_requested(self):
        query = self.atoti.start_query()
        answer, _ = self.cancel(query)
        self.assertEqual(answer.outcome, pb.CANCEL_OUTCOME_REQUESTED)
        self.assertFalse(answer.HasField("query"))

    def test_reads_a_query(self):
        query = self.atoti.start_query(username="ada")
        request, login = pb.GetQueryRequest(query_id=query), [("authorization", USER)]
        answer = self.stub.GetQuery(request, timeout=PATIENCE, metadata=login)
        self.assertEqual((answer.query.query_id, answer.query.username), (query, "ada"))
        self.assertEqual(answer.query.status, pb.QUERY_STATUS_RUNNING)

    def test_a_huge_error_keeps_its_code(self):
        headers = {"content-type": "text/plain"}
        self.atoti.inject({"answer": {"code": 500, "headers": headers, "body": "x" * 1_000_000}}, method="PATCH")
        code, details = self.failure("42")
        self.assertEqual(code, grpc.StatusCode.INTERNAL)
        self.assertEqual(details["ErrorInfo"].reason, "BACKEND_ERROR")

    def test_an_unknown_query_is_not_found(self):
        code, details = self.failure("42")
        self.assertEqual(code, grpc.StatusCode.NOT_FOUND)
        self.assertEqual(details["ErrorInfo"].reason, "QUERY_NOT_FOUND")
        self.assertEqual(details["ResourceInfo"].resource_name, "42")

    def test_a_repeat_is_safe_when_asked_for(self):
        query = self.atoti.start_query(cancelLatencyMilliseconds=0)
        self.cancel(query)
        code, details = self.failure(query)
        self.assertEqual(code, grpc.StatusCode.NOT_FOUND)
        self.assertEqual(details["ErrorInfo"].reason, "QUERY_NOT_RUNNING")
        self.assertEqual(details["ErrorInfo"].metadata["queryStatus"], "CANCELLED")
        answer, _ = self.cancel(query, allow_finished=True)
        self.assertEqual(answer.outcome, pb.CANCEL_OUTCOME_CANCELLED)

    def test_ids_that_cannot_be_are_invalid_arguments_and_cost_nothing(self):
        for query in ["", "..", "a/b", "a%2fb", "ä", "1" * 129]:
            code, details = self.failure(query)
            self.assertEqual(code, grpc.StatusCode.INVALID_ARGUMENT, query)
            self.assertEqual(details["BadRequest"].field_violations[0].field, "query_id")
        self.assertEqual(self.atoti.requests(), [])

    def test_a_failure_of_atoti_is_internal_with_its_details(self):
        query = self.atoti.start_query()
        self.atoti.inject({"status": {"code": 500, "shape": "tomcat_html"}})
        code, details = self.failure(query, ("x-request-id", "interop-500"))
        self.assertEqual(code, grpc.StatusCode.INTERNAL)
        self.assertEqual(details["ErrorInfo"].metadata["httpStatus"], "500")
        self.assertEqual(details["ErrorInfo"].metadata["requestSent"], "true")
        self.assertEqual(details["RequestInfo"].request_id, "interop-500")
        self.assertIn(query, self.atoti.running())

    def test_an_atoti_that_is_busy_says_when_to_come_back(self):
        query = self.atoti.start_query()
        self.atoti.inject({"status": {"code": 429, "headers": {"Retry-After": "7"}}})
        code, details = self.failure(query)
        self.assertEqual(code, grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(details["RetryInfo"].retry_delay.ToSeconds(), 7)

    def test_the_callers_deadline_is_kept_and_the_truth_recorded(self):
        query = self.atoti.start_query()
        self.atoti.inject({"delay": {"milliseconds": 2000}}, method="PATCH")
        code, _ = self.failure(query, ("x-request-id", "interop-late"), timeout=0.5)
        self.assertEqual(code, grpc.StatusCode.DEADLINE_EXCEEDED)
        record = self.bridge.audit("interop-late")
        self.assertEqual((record["code"], record["caller_waited"]), ("OK", False), record)

    def test_a_caller_that_hangs_up_does_not_stop_its_cancel(self):
        query = self.atoti.start_query()
        self.atoti.inject({"delay": {"milliseconds": 500}}, method="PATCH")
        request = pb.CancelQueryRequest(query_id=query)
        metadata = [("authorization", USER), ("x-request-id", "interop-gone")]
        call = self.stub.CancelQuery.future(request, metadata=metadata)
        with self.assertRaises(grpc.FutureTimeoutError):
            call.result(timeout=0.1)
        call.cancel()
        self.assertEqual(self.bridge.audit("interop-gone")["code"], "OK")

    def test_metadata_goes_along_and_the_request_id_comes_back(self):
        query = self.atoti.start_query()
        _, call = self.cancel(query, ("x-request-id", "interop-7"), ("x-secret", "canary"))
        self.assertEqual(dict(call.initial_metadata())["x-request-id"], "interop-7")
        headers = dict(self.atoti.requests()[0]["headers"])
        self.assertEqual((headers["authorization"], headers["x-request-id"]), (USER, "interop-7"))
        self.assertNotIn("x-secret", headers)

    def test_credentials_decide(self):
        query = self.atoti.start_query()
        self.assertEqual(self.failure(query, login=None)[0], grpc.StatusCode.UNAUTHENTICATED)
        guest = "Basic Z3Vlc3Q6Z3Vlc3Q="
        self.assertEqual(self.failure(query, login=guest)[0], grpc.StatusCode.PERMISSION_DENIED)
        self.assertIn(query, self.atoti.running())

    def watch(self, query, **arguments):
        request = pb.WatchQueryRequest(query_id=query)
        return self.stub.WatchQuery(request, metadata=[("authorization", USER)], **arguments)

    def test_watches_a_query_until_it_has_stopped(self):
        query = self.atoti.start_query()
        seen = self.watch(query, timeout=PATIENCE)
        self.assertEqual(next(seen).query.status, pb.QUERY_STATUS_RUNNING)
        self.cancel(query)
        self.assertEqual([answer.query.status for answer in seen], [pb.QUERY_STATUS_CANCELLED])
        self.assertEqual(seen.code(), grpc.StatusCode.OK)

    def test_a_watch_ends_at_its_deadline_and_when_nobody_listens(self):
        query = self.atoti.start_query()
        seen = self.watch(query, timeout=1)
        self.assertEqual(next(seen).query.query_id, query)
        with self.assertRaises(grpc.RpcError) as raised:
            next(seen)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

        seen = self.watch(query)
        next(seen)
        seen.cancel()
        with self.assertRaises(grpc.RpcError) as raised:
            next(seen)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.CANCELLED)
        # One question may be on its way. A watcher's come every second.
        time.sleep(0.5)
        self.atoti.reset()
        time.sleep(1.5)
        self.assertEqual(self.atoti.requests(), [])
        self.assertIn(query, self.atoti.running())

    def cancel_all_of(self, user, **arguments):
        request = pb.CancelQueriesRequest(reason="interop")
        request.filter.usernames.append(user)
        request.wait.FromSeconds(10)
        return self.stub.CancelQueries(request, metadata=[("authorization", USER)], **arguments)

    def test_stops_many_and_tells_of_each(self):
        queries = {self.atoti.start_query(username="many") for _ in range(20)}
        answers = list(self.cancel_all_of("many", timeout=PATIENCE))
        self.assertEqual({answer.query.query_id for answer in answers}, queries)
        self.assertEqual({answer.outcome for answer in answers}, {pb.CANCEL_OUTCOME_CANCELLED})
        self.assertFalse(queries & set(self.atoti.running()))

    def test_one_of_many_that_cannot_be_stopped_says_why(self):
        query = self.atoti.start_query(username="stubborn")
        self.atoti.inject({"status": {"code": 500}}, method="PATCH")
        [answer] = self.cancel_all_of("stubborn", timeout=PATIENCE)
        self.assertEqual((answer.query.query_id, answer.outcome), (query, pb.CANCEL_OUTCOME_UNSPECIFIED))
        info = error_details_pb2.ErrorInfo()
        self.assertTrue(answer.error.details[0].Unpack(info))
        self.assertEqual((info.reason, info.metadata["requestSent"]), ("BACKEND_ERROR", "true"))

    def test_nothing_further_is_stopped_for_a_caller_that_has_gone(self):
        queries = {self.atoti.start_query(username="gone") for _ in range(100)}
        self.atoti.inject({"delay": {"milliseconds": 1000}}, method="PATCH")
        answers = self.cancel_all_of("gone")
        eventually("the first cancels", lambda: self.patches())
        answers.cancel()
        time.sleep(2.5)
        sent = len(self.patches())
        self.assertLess(sent, len(queries))
        self.assertEqual(len(queries & set(self.atoti.running())), len(queries) - sent, "what was sent is carried out")

    def patches(self):
        return [request for request in self.atoti.requests() if request["method"] == "PATCH"]

    def test_reflection_serves_the_definition(self):
        database = ProtoReflectionDescriptorDatabase(self.channel)
        self.assertIn(SERVICE, database.get_services())
        served = database.FindFileContainingSymbol(SERVICE)
        self.assertEqual(served.package, "atoti.queryhistory.v1")
        self.assertEqual([method.name for method in served.service[0].method],
                         [method.name for method in pb.DESCRIPTOR.services_by_name["QueryHistoryService"].methods])

    def test_health(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        for service in ["", SERVICE]:
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING)
        with self.assertRaises(grpc.RpcError) as raised:
            health.Check(health_pb2.HealthCheckRequest(service="unknown"), timeout=PATIENCE)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)
