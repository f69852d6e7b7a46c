"""The rig measures truly: what is wrong is not counted as good, and what waits is seen to have waited."""

import http.client
import json
import os
import signal
import subprocess
import time
import unittest

from comparison.contestants import Floor, Upstream

ANYWHERE = ",".join(map(str, sorted(os.sched_getaffinity(0))))
QUERY = "/activeviam/query-history/rest/v1/query/"
CANCELLED = '{"status":"CANCELLED"}'


class Rig(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.upstream = cls.enterClassContext(Upstream(ANYWHERE))
        cls.floor = cls.enterClassContext(Floor(cls.upstream.address, ANYWHERE))

    def load(self, *arguments, target=None):
        command = [os.environ["RIG"], "load", f"--target={target or self.floor.address}", "--warmup=0", *arguments]
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

    def test_only_the_status_ok_is_good(self):
        for call, good, codes in [("cancel", 100, {"0": 100}), ("transcoded", 0, {"12": 100})]:
            done = self.outcome(self.load(f"--call={call}", "--calls=100", "--seconds=10"))
            self.assertEqual((done["good"], done["by_code"]), (good, codes))

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


if __name__ == "__main__":
    unittest.main()
