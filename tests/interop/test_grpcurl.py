"""grpcurl, as a person on call uses it: with no proto file at hand."""

import json
import subprocess

from programs import GRPCURL, PATIENCE, SERVICE, USER, Case

METHOD = f"{SERVICE}/CancelQuery"
METHODS = {
    "CancelAllQueries", "CancelQueries", "CancelQuery", "DeleteQueries", "DeleteQuery", "GetQuery", "GetQueryPlan",
    "GetServerInfo", "ListQueries", "WatchQuery",
}


class Grpcurl(Case):
    def grpcurl(self, *arguments):
        command = [GRPCURL, "-plaintext", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    def cancel(self, *flags, login=USER, **request):
        headers = ["-H", f"authorization: {login}"] if login else []
        return self.grpcurl(*headers, *flags, "-d", json.dumps(request), self.bridge.address, METHOD)

    def answers(self, method, **request):
        """The answers of a call that goes well: one, or those of a stream."""
        run = self.grpcurl("-H", f"authorization: {USER}", "-d", json.dumps(request), self.bridge.address,
                           f"{SERVICE}/{method}")
        self.assertEqual(run.returncode, 0, run.stderr)
        decoder, rest, answers = json.JSONDecoder(), run.stdout.strip(), []
        while rest:
            answer, end = decoder.raw_decode(rest)
            answers.append(answer)
            rest = rest[end:].lstrip()
        return answers

    def failure(self, run):
        """The decoded status of a failure, its details by their type."""
        self.assertNotEqual(run.returncode, 0, run.stdout)
        status = json.loads(run.stderr)
        details = {detail["@type"].rsplit(".", 1)[-1]: detail for detail in status.get("details", [])}
        return status["code"], status["message"], details

    def test_lists_the_services(self):
        run = self.grpcurl(self.bridge.address, "list")
        self.assertEqual(run.returncode, 0, run.stderr)
        for service in [SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                        "grpc.reflection.v1alpha.ServerReflection"]:
            self.assertIn(service, run.stdout.splitlines())

    def test_describes_the_service_and_its_messages(self):
        run = self.grpcurl(self.bridge.address, "describe", SERVICE)
        self.assertIn("rpc CancelQuery ( .atoti.queryhistory.v1.CancelQueryRequest ) returns", run.stdout)
        run = self.grpcurl(self.bridge.address, "describe", "atoti.queryhistory.v1.CancelQueryRequest")
        self.assertIn("string query_id = 1;", run.stdout)
        self.assertIn(".google.protobuf.Duration wait = 2;", run.stdout)

    def test_lists_and_describes_every_method(self):
        run = self.grpcurl(self.bridge.address, "list", SERVICE)
        self.assertEqual(set(run.stdout.split()), {f"{SERVICE}.{method}" for method in METHODS}, run.stderr)
        for method in METHODS:
            run = self.grpcurl(self.bridge.address, "describe", f"{SERVICE}.{method}")
            self.assertIn(f".atoti.queryhistory.v1.{method}Response )", run.stdout, run.stderr)
        run = self.grpcurl(self.bridge.address, "describe", "atoti.queryhistory.v1.CancelQueriesResponse")
        self.assertIn(".google.rpc.Status error = 3;", run.stdout, run.stderr)
        run = self.grpcurl(self.bridge.address, "describe", "google.rpc.Status")
        self.assertIn("repeated .google.protobuf.Any details = 3;", run.stdout, run.stderr)

    def test_health(self):
        for request in [{}, {"service": SERVICE}]:
            run = self.grpcurl("-d", json.dumps(request), self.bridge.address, "grpc.health.v1.Health/Check")
            self.assertEqual(json.loads(run.stdout), {"status": "SERVING"})

    def test_cancels_a_query_and_sees_it_stop(self):
        query = self.atoti.start_query(username="ada", query="SELECT x")
        run = self.cancel(query_id=query, wait="10s", reason="interop")
        self.assertEqual(run.returncode, 0, run.stderr)
        answer = json.loads(run.stdout)
        self.assertEqual(answer["outcome"], "CANCEL_OUTCOME_CANCELLED")
        self.assertEqual(answer["query"]["queryId"], query)
        self.assertEqual(answer["query"]["status"], "QUERY_STATUS_CANCELLED")
        self.assertEqual(answer["query"]["username"], "ada")
        self.assertNotIn(query, self.atoti.running())

    def test_an_unknown_query_is_not_found(self):
        code, _, details = self.failure(self.cancel("-format-error", query_id="42"))
        self.assertEqual(code, 5)
        self.assertEqual(details["ErrorInfo"]["reason"], "QUERY_NOT_FOUND")
        self.assertEqual(details["ErrorInfo"]["domain"], "atoti-grpc-bridge")
        self.assertEqual(details["ResourceInfo"]["resourceName"], "42")

    def test_an_id_that_cannot_be_is_an_invalid_argument_and_costs_nothing(self):
        code, _, details = self.failure(self.cancel("-format-error", query_id="../admin"))
        self.assertEqual(code, 3)
        self.assertEqual(details["ErrorInfo"]["reason"], "INVALID_QUERY_ID")
        self.assertEqual(details["BadRequest"]["fieldViolations"][0]["field"], "query_id")
        self.assertEqual(self.atoti.requests(), [])

    def test_a_failure_of_atoti_is_internal_with_its_details(self):
        query = self.atoti.start_query()
        self.atoti.inject({"status": {"code": 500, "shape": "error_chain"}})
        code, message, details = self.failure(
            self.cancel("-format-error", "-H", "x-request-id: interop-500", query_id=query)
        )
        self.assertEqual(code, 13)
        self.assertNotIn("simulated", message.lower(), "what Atoti wrote stays inside")
        metadata = details["ErrorInfo"]["metadata"]
        self.assertEqual(metadata["httpStatus"], "500")
        self.assertEqual(metadata["queryId"], query)
        self.assertEqual(metadata["requestSent"], "true")
        self.assertEqual(details["RequestInfo"]["requestId"], "interop-500")
        self.assertIn(query, self.atoti.running())

    def test_people_see_the_details_without_any_flag(self):
        run = self.cancel(query_id="42")
        for text in ["Code: NotFound", "QUERY_NOT_FOUND", "atoti-grpc-bridge"]:
            self.assertIn(text, run.stderr)

    def test_the_callers_deadline_is_kept_and_the_truth_recorded(self):
        query = self.atoti.start_query()
        self.atoti.inject({"delay": {"milliseconds": 2000}}, method="PATCH")
        run = self.cancel("-format-error", "-max-time", "0.5", "-H", "x-request-id: interop-late", query_id=query)
        code, _, _ = self.failure(run)
        self.assertEqual(code, 4)
        record = self.bridge.audit("interop-late")
        self.assertEqual((record["code"], record["caller_waited"]), ("OK", False), record)

    def test_metadata_goes_along_and_the_request_id_comes_back(self):
        query = self.atoti.start_query()
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        run = self.cancel("-v", "-H", "x-request-id: interop-7", "-H", f"traceparent: {parent}",
                          "-H", "x-secret: canary", query_id=query)
        self.assertIn("x-request-id: interop-7", run.stdout)
        headers = dict(self.atoti.requests()[0]["headers"])
        self.assertEqual(headers["authorization"], USER)
        self.assertEqual(headers["x-request-id"], "interop-7")
        self.assertEqual(headers["traceparent"], parent)
        self.assertNotIn("x-secret", headers)

    def test_credentials_decide(self):
        query = self.atoti.start_query()
        for login, expected in [(None, 16), ("Basic bm9ib2R5Om5v", 16), ("Basic Z3Vlc3Q6Z3Vlc3Q=", 7)]:
            code, _, _ = self.failure(self.cancel("-format-error", login=login, query_id=query))
            self.assertEqual(code, expected, login)
        self.assertIn(query, self.atoti.running())

    def test_lists_page_by_page(self):
        first, second, third = [self.atoti.start_query(username="lists") for _ in range(3)]
        request = {"filter": {"usernames": ["lists"], "statuses": ["QUERY_STATUS_RUNNING"]}, "page_size": 2}
        [page] = self.answers("ListQueries", **request)
        self.assertEqual([query["queryId"] for query in page["queries"]], [third, second])
        self.assertEqual(page["totalSize"], "3")
        [page] = self.answers("ListQueries", **request, page_token=page["nextPageToken"])
        self.assertEqual([query["queryId"] for query in page["queries"]], [first])
        self.assertNotIn("nextPageToken", page)

    def test_a_dry_run_tells_the_matches_and_stops_none(self):
        queries = {self.atoti.start_query(username="dry") for _ in range(3)}
        told = self.answers("CancelQueries", filter={"usernames": ["dry"]}, max_cancellations=1, validate_only=True)
        self.assertEqual({answer["query"]["queryId"] for answer in told}, queries)
        self.assertFalse([answer for answer in told if "outcome" in answer or "error" in answer], told)
        self.assertLessEqual(queries, set(self.atoti.running()))
        self.assertNotIn("PATCH", [request["method"] for request in self.atoti.requests()])

    def test_many_are_stopped_and_one_that_cannot_be_says_why(self):
        stubborn, *others = [self.atoti.start_query(username="bulk") for _ in range(3)]
        self.atoti.inject({"status": {"code": 500}}, method="PATCH", path=stubborn)
        told = self.answers("CancelQueries", filter={"usernames": ["bulk"]}, wait="10s", reason="interop")
        told = {answer["query"]["queryId"]: answer for answer in told}
        for query in others:
            self.assertEqual(told.pop(query)["outcome"], "CANCEL_OUTCOME_CANCELLED")
        error = told.pop(stubborn)["error"]
        self.assertEqual(told, {})
        details = {detail["@type"].rsplit(".", 1)[-1]: detail for detail in error["details"]}
        self.assertEqual((error["code"], details["ErrorInfo"]["reason"]), (13, "BACKEND_ERROR"))
        self.assertEqual(details["ErrorInfo"]["metadata"]["queryId"], stubborn)
        running = self.atoti.running()
        self.assertIn(stubborn, running)
        self.assertFalse(set(others) & set(running))

    def test_watches_a_query_to_its_end(self):
        query = self.atoti.start_query(runsMilliseconds=700, outcome="FAILED")
        told = [answer["query"] for answer in self.answers("WatchQuery", query_id=query)]
        self.assertEqual({told_of["queryId"] for told_of in told}, {query})
        self.assertEqual([told_of["status"] for told_of in told], ["QUERY_STATUS_RUNNING", "QUERY_STATUS_FAILED"])

    def test_says_what_is_behind_it(self):
        [info] = self.answers("GetServerInfo")
        self.assertTrue(info["apiInstalled"])
        self.assertEqual(info["credentials"], "CREDENTIALS_STATUS_ACCEPTED")
