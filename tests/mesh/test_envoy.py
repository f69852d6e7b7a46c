"""Envoy, set up as Istio does, in front of two bridges: what callers see, and what Atoti does."""

from atoti.queryhistory.v1 import query_history_pb2 as pb
from programs import eventually
from proxies import Case, Envoy
from transparent import Transparent

# As if Envoy kept no time of its own: what the bridge answers is what decides.
NO_TIMER = {"grpc_timeout_header_max: 0s": ""}
# As if it asked nobody for health.
NO_HEALTH_CHECKS = {"interval: 0.5s": "interval: 600s"}
# Looks for the other of two bridges until it is found: with Istio's five looks, the same is tried again now and then.
PERSISTENT = {"host_selection_retry_max_attempts: 5": "host_selection_retry_max_attempts: 100"}


class Calls(Transparent, Case):
    PROXY = Envoy

    def test_its_log_names_the_bridge_and_counts_the_attempts(self):
        self.up()
        self.cancel(self.atoti.start_query(), ("x-request-id", "mesh-1"))
        line = self.proxy.logged("mesh-1")
        self.assertEqual((line["grpc_status"], line["attempts"]), ("OK", 1), line)
        self.assertIn(line["upstream_host"], {replica.address for replica in self.replicas})

        # Atoti is too busy: RESOURCE_EXHAUSTED is not among the codes that a mesh repeats.
        self.atoti.inject({"status": {"code": 429}}, method="PATCH")
        self.failure(self.atoti.start_query(), ("x-request-id", "mesh-429"))
        line = self.proxy.logged("mesh-429")
        self.assertEqual((line["grpc_status"], line["attempts"]), ("RESOURCE_EXHAUSTED", 1), line)

    def test_a_deadline_is_not_repeated(self):
        for who, changes in [("the bridge alone keeps time", NO_TIMER), ("Envoy keeps time too", None)]:
            with self.subTest(who):
                self.up(changes=changes)
                self.deadline_is_kept_once()
                line = self.proxy.logged("mesh-late")
                self.assertEqual((line["grpc_status"], line["attempts"]), ("DEADLINE_EXCEEDED", 1), line)
                self.stop_all()

    def test_a_bridge_that_does_not_reach_atoti_is_made_up_for_by_the_other(self):
        self.up(upstreams=(None, "http://127.0.0.1:1"), changes=PERSISTENT)
        attempts = []
        for number in range(20):
            query = self.atoti.start_query()
            self.cancel(query, ("x-request-id", f"mesh-{number}"))
            attempts.append(self.proxy.logged(f"mesh-{number}")["attempts"])
        self.assertEqual(set(attempts), {1, 2}, "some calls came to the one without Atoti first")
        self.assertEqual(set(self.patches().values()), {1})

    def test_a_bridge_that_nobody_knows_is_dead_is_made_up_for(self):
        self.up(changes=NO_HEALTH_CHECKS | PERSISTENT)
        self.replicas[0].kill()
        attempts = []
        for number in range(20):
            query = self.atoti.start_query()
            self.cancel(query, ("x-request-id", f"mesh-{number}"))
            attempts.append(self.proxy.logged(f"mesh-{number}")["attempts"])
        self.assertEqual(set(attempts), {1, 2}, "some calls came to the dead one first")
        self.assertEqual(set(self.patches().values()), {1})

    def test_a_cancel_whose_answers_are_lost_is_found_to_be_carried_out(self):
        # Lost, not late. The bridge repeats it once, and says UNAVAILABLE when that is lost too: then so does Envoy.
        for lost, attempts in [(1, 1), (2, 2)]:
            with self.subTest(lost=lost):
                self.up()
                self.atoti.inject("cut_before_head", method="PATCH", times=lost, after_effect=True)
                query = self.atoti.start_query(cancelLatencyMilliseconds=0)
                answer, _ = self.cancel(query, ("x-request-id", "mesh-lost"), allow_finished=True)
                self.assertEqual(answer.outcome, pb.CANCEL_OUTCOME_CANCELLED)
                self.assertEqual(self.proxy.logged("mesh-lost")["attempts"], attempts)
                self.assertEqual(self.patches(), {query: 1 + lost})
                self.stop_all()

    def test_a_bridge_that_drains_gets_no_calls(self):
        self.up(drain_delay="10s")
        leaving, staying = self.replicas
        leaving.bridge.process.terminate()
        eventually("Envoy to notice", lambda: not self.proxy.hosts()[leaving.address]["healthy"])
        self.assertTrue(self.proxy.hosts()[staying.address]["healthy"])
        for number in range(50):
            self.cancel(self.atoti.start_query(), ("x-request-id", f"mesh-{number}"))
            line = self.proxy.logged(f"mesh-{number}")
            self.assertEqual((line["upstream_host"], line["attempts"]), (staying.address, 1))
        self.assertEqual(leaving.audit(), [])


class Outliers(Case):
    PROXY = Envoy

    def calls(self, count=60):
        for _ in range(count):
            self.cancel(self.atoti.start_query())

    def test_istios_share_of_a_tenth_ejects_none_of_two(self):
        self.up(changes=NO_HEALTH_CHECKS | PERSISTENT)
        self.replicas[0].kill()
        self.calls()
        self.assertFalse(self.proxy.hosts()[self.replicas[0].address]["ejected"])

    def test_a_dead_bridge_is_ejected_where_half_may_be(self):
        self.up(changes=NO_HEALTH_CHECKS | PERSISTENT | {"max_ejection_percent: 10": "max_ejection_percent: 50"})
        dead = self.replicas[0]
        dead.kill()
        self.calls()
        self.assertTrue(self.proxy.hosts()[dead.address]["ejected"], self.proxy.hosts())
        self.cancel(self.atoti.start_query(), ("x-request-id", "mesh-after"))
        self.assertEqual(self.proxy.logged("mesh-after")["attempts"], 1)
