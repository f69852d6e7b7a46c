"""HAProxy in front of two bridges: calls come through it unchanged, and none fails when the bridges restart."""

from proxies import Case, HAProxy
from restarts import SECONDS, Restarts
from transparent import Transparent


class Calls(Transparent, Case):
    PROXY = HAProxy


class HAProxyRestarts(Restarts):
    PROXY = HAProxy

    def test_no_call_fails_while_bridges_restart(self):
        self.assert_nothing_is_lost(self.restarted_under_load(rate=500, seconds=min(SECONDS, 20), drain_delay="2s"))
