"""Calls at a fixed rate, whatever becomes of them: a slow answer does not slow the next call down."""

import asyncio
import collections
import threading
import time

import grpc

from atoti.queryhistory.v1 import query_history_pb2 as pb
from atoti.queryhistory.v1 import query_history_pb2_grpc
from proxies import LOGIN

TIMEOUT = 10.0
# Of twenty calls, these are cancels and listings; the rest are reads. A listing costs the simulator most.
CANCELS, LISTINGS = {0, 5, 10, 15}, {7}
CYCLE = 20


def cancels(calls):
    """How many of so many calls are cancels."""
    return sum(number % CYCLE in CANCELS for number in range(calls))


class Load:
    """`rate` calls a second for some seconds, in a thread of its own: cancels of `queries`, each once, and reads of
    `kept`, which goes on running."""

    def __init__(self, address, queries, kept, rate, seconds, cancels_within=TIMEOUT):
        self.address, self.queries, self.kept = address, iter(queries), kept
        self.cancels_within = cancels_within
        self.rate, self.count = rate, int(rate * seconds)
        self.codes = collections.Counter()
        self.failures, self.cancelled = [], []
        self.slowest, self.issued_in = 0.0, None
        self.broken = None
        self.thread = threading.Thread(target=self._main, daemon=True)
        self.thread.start()

    def _main(self):
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self.broken = error

    async def _run(self):
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = query_history_pb2_grpc.QueryHistoryServiceStub(channel)
            # The connection is not what is measured.
            await channel.channel_ready()
            calls, begin = set(), time.monotonic()
            for number in range(self.count):
                wait = begin + number / self.rate - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                call = asyncio.create_task(self._call(stub, number))
                calls.add(call)
                call.add_done_callback(calls.discard)
            self.issued_in = time.monotonic() - begin
            await asyncio.gather(*calls)

    async def _call(self, stub, number):
        place = number % CYCLE
        if place in CANCELS:
            query = next(self.queries)
            method, call = "CancelQuery", stub.CancelQuery(
                pb.CancelQueryRequest(query_id=query), timeout=self.cancels_within, metadata=LOGIN)
            self.cancelled.append(query)
        elif place in LISTINGS:
            method, call = "ListQueries", stub.ListQueries(
                pb.ListQueriesRequest(page_size=5), timeout=TIMEOUT, metadata=LOGIN)
        else:
            method, call = "GetQuery", stub.GetQuery(
                pb.GetQueryRequest(query_id=self.kept), timeout=TIMEOUT, metadata=LOGIN)
        begin = time.monotonic()
        try:
            await call
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            self.failures.append((time.time(), method, code.name, error.details(), error.debug_error_string(),
                                  dict(error.initial_metadata() or {}).get("x-request-id")))
        self.slowest = max(self.slowest, time.monotonic() - begin)
        self.codes[method, code.name] += 1

    def going(self):
        return self.thread.is_alive()

    def end(self):
        """Waits for the last call."""
        self.thread.join(self.count / self.rate + 10 * TIMEOUT)
        if self.broken:
            raise self.broken
        assert not self.going(), "the load does not come to its end"
        return self

    def __str__(self):
        codes = ", ".join(f"{method} {code} {count}" for (method, code), count in sorted(self.codes.items()))
        return f"{codes}; issued in {self.issued_in:.1f} s, slowest {self.slowest * 1000:.0f} ms"
