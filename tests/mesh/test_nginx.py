"""nginx in front of two bridges: calls come through it unchanged, and none fails when the bridges restart."""

from proxies import Case, Nginx
from restarts import SECONDS, Restarts
from transparent import Transparent


class Calls(Transparent, Case):
    PROXY = Nginx


class NginxRestarts(Restarts):
    PROXY = Nginx

    def test_no_call_fails_while_bridges_restart(self):
        self.assert_nothing_is_lost(self.restarted_under_load(rate=500, seconds=min(SECONDS, 20), drain_delay="2s"))
