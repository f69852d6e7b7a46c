"""Bridges that come and go behind Envoy, under load: no call fails, and no cancel reaches Atoti twice."""

import concurrent.futures

from programs import eventually
from proxies import Envoy
from restarts import SECONDS, Restarts


class EnvoyRestarts(Restarts):
    PROXY = Envoy

    def back(self, replica):
        return self.proxy.hosts()[replica.address]["healthy"]

    def test_no_call_fails_while_bridges_restart(self):
        self.assert_nothing_is_lost(self.restarted_under_load(rate=500, seconds=SECONDS, drain_delay="2s"))
        attempts = {line["attempts"] for line in self.proxy.log()}
        print(f"attempts by Envoy {sorted(attempts)}", end="; ", flush=True)

    def test_no_cancel_is_repeated_because_it_is_late(self):
        late = 200
        load = self.restarted_under_load(rate=200, seconds=15, drain_delay="2s", late=late, cancels_within=0.3)
        patches = self.requests.end()
        print(f"\n  {load}; restarts {len(self.restarts)}", end="; ", flush=True)
        self.assertEqual({query: count for query, count in patches.items() if count > 1}, {})
        failed = {(method, code) for method, code in load.codes if code != "OK"}
        self.assertEqual(failed, {("CancelQuery", "DEADLINE_EXCEEDED")})
        # A busy machine makes more of them late; those may not have been sent at all.
        self.assertGreaterEqual(load.codes["CancelQuery", "DEADLINE_EXCEEDED"], late)
        self.assertGreaterEqual(len(patches), load.codes["CancelQuery", "OK"] + late // 2)

    def test_slow_cancels_end_well_while_their_bridge_stops(self):
        # No delay: the signal comes, and at once GOAWAY, with all the cancels at work.
        self.up(drain_delay="0s")
        self.atoti.inject({"delay": {"milliseconds": 1000}}, method="PATCH")
        queries = [self.atoti.start_query() for _ in range(40)]
        leaving = self.replicas[0]
        with concurrent.futures.ThreadPoolExecutor(len(queries)) as pool:
            calls = [pool.submit(self.cancel, query) for query in queries]
            eventually("all of them to be at Atoti", lambda: len(self.patches()) == len(queries))
            leaving.bridge.process.terminate()
            for call in calls:
                call.result()
        self.assertEqual(leaving.bridge.ended(), 0)
        self.assertEqual(self.patches(), dict.fromkeys(queries, 1))
        records = leaving.audit()
        self.assertGreater(len(records), 0, "some were at work at the one that stopped")
        self.assertEqual({(record["code"], record["caller_waited"]) for record in records}, {("OK", True)})

    def test_no_call_fails_when_connections_grow_old(self):
        load = self.under_load(rate=500, seconds=min(SECONDS, 10), flags=("--max-connection-age=2s",))
        self.assert_nothing_is_lost(load.end())
        closed = self.proxy.stats("upstream_cx_close_notify")
        self.assertGreater(sum(closed.values()), 4, closed)
