"""The rig measures truly: what is wrong is not counted as good, and what waits is seen to have waited."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import time
import unittest
from concurrent import futures

import grpc

from comparison.contestants import Floor, Upstream

# As benches/rig/page.rs has it.
QUERIES_ON_A_PAGE = 200
ANYWHERE = ",".join(map(str, sorted(os.sched_getaffinity(0))))
QUERY = "/activeviam/query-history/rest/v1/query/"
CANCELLED = '{"status":"CANCELLED"}'


class Rig(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.upstream = cls.enterClassContext(Upstream(ANYWHERE))
        cls.floor = cls.enterClassContext(Floor(cls.upstream.address, ANYWHERE))

    def load(self, *arguments, target=None, part="load"):
        command = [os.environ["RIG"], part, f"--target={target or self.floor.address}", "--warmup=0", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    def outcome(self, loading):
        out, _ = loading.communicate(timeout=60)
        self.assertEqual(loading.returncode, 0)
        return json.loads(out)

    def test_the_upstream_takes_the_right_cancel_alone(self):
        for expected, method, path, body in [
            (204, "PATCH", "42", CANCELLED), (204, "PATCH", "42", '{ "status": "CANCELLED" }'),
            (400, "PATCH", "42", '{"status":"RUNNING"}'), (400, "PATCH", "42", '{"status":"CANCELLED","more":1}'),
            (400, "PATCH", "42", ""), (404, "POST", "42", CANCELLED), (404, "PATCH", "4%32", CANCELLED),
            (404, "PATCH", "", CANCELLED),
        ]:
            with self.subTest(method=method, path=path, body=body):
                connection = http.client.HTTPConnection(self.upstream.address, timeout=10)
                connection.request(method, QUERY + path, body)
                self.assertEqual(connection.getresponse().status, expected)
                connection.close()

    def test_a_page_has_as_many_queries_as_it_should(self):
        for asked, expected in [("page=0&page_size=50", 50), ("page=0&page_size=500", QUERIES_ON_A_PAGE),
                                ("status=RUNNING&page_size=50", QUERIES_ON_A_PAGE)]:
            with self.subTest(asked=asked):
                connection = http.client.HTTPConnection(self.upstream.address, timeout=10)
                connection.request("GET", f"/activeviam/query-history/rest/v1/queries?{asked}")
                self.assertEqual(len(json.load(connection.getresponse())["data"]), expected)
                connection.close()

    def test_only_the_status_ok_is_good(self):
        for call, good, codes in [("cancel", 100, {"0": 100}), ("transcoded", 0, {"12": 100})]:
            done = self.outcome(self.load(f"--call={call}", "--calls=100", "--seconds=10"))
            self.assertEqual((done["good"], done["by_code"]), (good, codes))

    def test_an_answer_without_all_its_messages_is_not_good(self):
        for messages, codes in [(QUERIES_ON_A_PAGE, {"0": 20}), (QUERIES_ON_A_PAGE - 1, {"broken": 20})]:
            with answering(messages) as target:
                done = self.outcome(self.load("--call=cancel-many", "--calls=20", "--seconds=10", target=target))
            self.assertEqual((done["good"], done["by_code"]), (codes.get("0", 0), codes))

    def test_an_upstream_with_few_threads_has_the_others_wait(self):
        with Upstream(ANYWHERE, delay=0.2, at_once=2) as upstream:
            done = self.outcome(self.load("--connections=6", "--calls=6", "--seconds=10", target=upstream.address,
                                          part="rest"))
        self.assertEqual(done["good"], 6)
        # In microseconds: two at a time.
        self.assertGreaterEqual(done["latency"]["50"], 400_000)
        self.assertGreaterEqual(done["latency"]["max"], 600_000)

    def test_no_answer_is_told_of(self):
        # What answers there speaks HTTP/1.1.
        done = self.outcome(self.load("--calls=10", "--seconds=10", target=self.upstream.address))
        self.assertEqual((done["good"], done["by_code"]), (0, {"broken": 10}))

    def test_a_server_that_stands_still_is_asked_on_and_each_call_has_waited(self):
        self.floor.program.process.send_signal(signal.SIGSTOP)
        try:
            loading = self.load("--rate=1000", "--seconds=1")
            time.sleep(2)
        finally:
            self.floor.program.process.send_signal(signal.SIGCONT)
        done = self.outcome(loading)
        # Who waits for answers would have made one call, and found one slow.
        self.assertGreaterEqual(done["calls"], 990)
        self.assertEqual(done["good"], done["calls"])
        self.assertGreater(done["latency"]["50"], 500_000)

    def test_what_is_given_up_is_not_good(self):
        self.floor.program.process.send_signal(signal.SIGSTOP)
        try:
            done = self.outcome(self.load("--rate=100", "--seconds=0.5", "--deadline=0.2"))
        finally:
            self.floor.program.process.send_signal(signal.SIGCONT)
        self.assertEqual((done["good"], done["by_code"]), (0, {"gave up": done["calls"]}))


@contextlib.contextmanager
def answering(messages):
    """A server that answers whatever it is asked with so many messages, each of another length: its address."""
    class Answers(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.unary_stream_rpc_method_handler(lambda *_: (b"x" * number for number in range(messages)))

    with futures.ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, handlers=[Answers()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


if __name__ == "__main__":
    unittest.main()
