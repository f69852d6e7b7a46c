"""nginx in front of two bridges: calls come through it unchanged, and none is repeated that has been sent."""

import grpc

from proxies import Case, Nginx
from restarts import SECONDS, Restarts
from transparent import Transparent


class Calls(Transparent, Case):
    PROXY = Nginx

    def test_its_own_timeout_is_not_repeated(self):
        self.up(changes={"grpc_read_timeout 1d": "grpc_read_timeout 300ms"})
        self.atoti.inject("hang", method="PATCH")
        query = self.atoti.start_query()
        call, _ = self.failure(query)
        self.assertEqual(call.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(self.patches(), {query: 1})


class NginxRestarts(Restarts):
    PROXY = Nginx

    # It asks nobody for health and has one call at a time on a connection: whenever a bridge goes, it opens as many
    # connections to the other as there are calls. On a busy machine the handshakes of a high rate make calls wait, and
    # those open more connections still: that would be a test of the machine.
    def test_no_call_fails_while_bridges_restart(self):
        self.assert_nothing_is_lost(self.restarted_under_load(rate=50, seconds=min(SECONDS, 20), drain_delay="2s"))
