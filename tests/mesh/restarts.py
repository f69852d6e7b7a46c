"""Load through a proxy while the bridges behind it restart in turn, and what must hold afterwards."""

import collections
import os
import threading
import time

from load import Load, cancels
from programs import eventually
from proxies import Case

SECONDS = float(os.environ.get("ATOTI_BRIDGE_TEST_SECONDS", "60"))


class Requests:
    """What reaches Atoti, all of it: the simulator remembers the latest ten thousand only."""

    # To tell them all costs the simulator a quarter of a second, in which calls wait.
    EVERY = 12.0
    # So many in a row are the same only where they are the same.
    OVERLAP = 8

    def __init__(self, atoti):
        self.atoti = atoti
        self.seen = []
        self.patches = collections.Counter()
        self.done = threading.Event()
        self.broken = None
        self.thread = threading.Thread(target=self._main, daemon=True)
        self.thread.start()

    def _main(self):
        try:
            while not self.done.wait(self.EVERY):
                self._look()
            self._look()
        except BaseException as error:
            self.broken = error

    def _look(self):
        now = [
            (request["connection"], request["method"], request["target"], dict(request["headers"]).get("x-request-id"))
            for request in self.atoti.requests()
        ]
        tail = self.seen[-self.OVERLAP:]
        new = now
        if tail:
            ends = [end for end in range(len(now), len(tail) - 1, -1) if now[end - len(tail):end] == tail]
            assert len(ends) == 1, f"requests were missed: {len(ends)} places to go on from"
            new = now[ends[0]:]
        self.seen = now or self.seen
        self.patches.update(target.rsplit("/", 1)[-1] for _, method, target, _ in new if method == "PATCH")

    def end(self):
        """How often each query was told to stop."""
        self.done.set()
        self.thread.join()
        if self.broken:
            raise self.broken
        return self.patches


class Restarts(Case):
    """`back` says whether a replica gets calls again, as far as the proxy tells."""

    def under_load(self, rate, seconds, flags=(), drain_delay="0s", late=0, **load):
        # One bridge takes all of it while the other restarts. Where the machine stands still for a moment, that is more
        # calls at once than are taken on by default; what a bridge does then is for other tests.
        flags = ("--max-in-flight=4096", *flags)
        self.up(*flags, queries=cancels(int(rate * seconds)) + 1, drain_delay=drain_delay)
        kept, *queries = self.atoti.queries
        if late:
            self.atoti.inject({"delay": {"milliseconds": 1000}}, method="PATCH", times=late)
        self.requests = Requests(self.atoti)
        return Load(self.proxy.address, queries, kept, rate, seconds, **load)

    def restarted_under_load(self, rate, seconds, drain_delay, **load):
        """One bridge after the other stops and comes back, for as long as there is load."""
        load = self.under_load(rate, seconds, drain_delay=drain_delay, **load)
        time.sleep(1)
        self.restarts = []
        while load.going():
            replica = self.replicas[len(self.restarts) % 2]
            self.restarts.append(time.time())
            replica.restart()
            eventually("the proxy to notice", lambda: self.back(replica))
        return load.end()

    def back(self, replica):
        return replica.ready()

    def assert_nothing_is_lost(self, load):
        """Every call OK, every query told to stop once, and the bridges' own records say the same."""
        patches = self.requests.end()
        restarts = len(getattr(self, "restarts", []))
        print(f"\n  {load}; restarts {restarts}, cancels {len(load.cancelled)}", end="; ", flush=True)
        self.assertEqual(load.failures[:10], [])
        self.assertEqual({code for _, code in load.codes}, {"OK"})
        self.assertEqual(sum(load.codes.values()), load.count)
        self.assertLess(load.issued_in, load.count / load.rate * 1.05, "the load was not as high as it should be")
        self.assertEqual({query: count for query, count in patches.items() if count != 1}, {})
        self.assertEqual(set(patches), set(load.cancelled))
        records = [record for replica in self.replicas for record in replica.audit()]
        by_query = collections.Counter(record["query_id"] for record in records)
        self.assertEqual({query: count for query, count in by_query.items() if count != 1}, {})
        self.assertEqual(set(by_query), set(load.cancelled))
        self.assertEqual({record["code"] for record in records}, {"OK"})
