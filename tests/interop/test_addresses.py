"""One host name with several addresses, as a headless Service has: all are used, and a change is noticed.

The name is of a hosts file that only the bridge sees, in a mount namespace of its own.
"""

import concurrent.futures
import pathlib
import tempfile
import unittest

import grpc

from atoti.queryhistory.v1 import query_history_pb2 as pb
from atoti.queryhistory.v1 import query_history_pb2_grpc
from programs import PATIENCE, Bridge, Simulator

NAME = "atoti.test"


class Addresses(unittest.TestCase):
    def setUp(self):
        first = Simulator("--listen=127.0.0.2:0", "--security=off")
        port = first.url.rsplit(":", 1)[1]
        self.atotis = [first, Simulator(f"--listen=127.0.0.3:{port}", "--security=off")]
        self.hosts = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "hosts"
        self.hosts.write_text(f"127.0.0.2 {NAME}\n127.0.0.3 {NAME}\n")
        bind = f'mount --bind {self.hosts} /etc/hosts && exec "$0" "$@"'
        self.bridge = Bridge(f"http://{NAME}:{port}", prefix=("unshare", "-rm", "sh", "-c", bind))
        self.channel = self.enterContext(grpc.insecure_channel(self.bridge.address))
        self.stub = query_history_pb2_grpc.QueryHistoryServiceStub(self.channel)

    def tearDown(self):
        codes = [program.stop() for program in [self.bridge, *self.atotis]]
        self.assertEqual(set(codes), {0})

    def cancel_many(self):
        """The codes of many calls at once, each of which takes a while: as many connections."""

        def one(number):
            try:
                self.stub.CancelQuery(pb.CancelQueryRequest(query_id=str(number)), timeout=PATIENCE)
            except grpc.RpcError as error:
                return error.code()

        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            return set(pool.map(one, range(1, 49)))

    def patches(self):
        return [sum(request["method"] == "PATCH" for request in atoti.requests()) for atoti in self.atotis]

    def test_all_addresses_are_used_and_one_that_is_gone_is_left(self):
        for atoti in self.atotis:
            atoti.inject({"delay": {"milliseconds": 50}})
        # Nobody has these queries: that is an answer, too.
        self.assertEqual(self.cancel_many(), {grpc.StatusCode.NOT_FOUND})
        first, second = self.patches()
        self.assertGreater(min(first, second), 0, (first, second))

        self.hosts.write_text(f"127.0.0.3 {NAME}\n")
        self.assertEqual(self.atotis.pop(0).stop(), 0)
        self.assertEqual(self.cancel_many(), {grpc.StatusCode.NOT_FOUND})
