"""HAProxy in front of two bridges: calls come through it unchanged, and none fails when the bridges restart."""

import grpc

from proxies import Case, HAProxy
from restarts import SECONDS, Restarts
from transparent import Transparent


class Calls(Transparent, Case):
    PROXY = HAProxy

    def test_its_own_timeout_is_not_repeated(self):
        self.up(changes={"timeout server 1d": "timeout server 300ms"})
        self.atoti.inject("hang", method="PATCH")
        query = self.atoti.start_query()
        call, _ = self.failure(query)
        self.assertEqual(call.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(self.patches(), {query: 1})


class HAProxyRestarts(Restarts):
    PROXY = HAProxy

    def test_no_call_fails_while_bridges_restart(self):
        self.assert_nothing_is_lost(self.restarted_under_load(rate=100, seconds=min(SECONDS, 20), drain_delay="2s"))
