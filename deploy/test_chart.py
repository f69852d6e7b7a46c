"""The chart as real helm renders it: what must hold in every rendering, and what must be refused.

Every rendering is left in $RENDERED, for the validator.
"""

import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import textwrap
import tomllib
import unittest

import yaml

from chart import CHART, FLUSH_SECONDS, FULL_VALUES, Refused, Rendered, render, seconds

BRIDGE = os.environ["BRIDGE"]
VERSION = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["package"]["version"]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
FILES = "/etc/atoti-grpc-bridge"
OWN_ACCOUNT = ('credentials={"mode": "basic", "secretName": "account"}',)
SERVED_OVER_TLS = ('tls={"secretName": "tls"}',)
CALLERS_SHOW_CERTIFICATES = ('tls={"secretName": "tls", "clientCa": {"secretName": "callers"}}',)
CASES = {
    "default": (),
    "full": (FULL_VALUES,),
    "tls": SERVED_OVER_TLS,
    "own-account-with-mtls": (*OWN_ACCOUNT, *CALLERS_SHOW_CERTIFICATES),
    "own-account-in-a-mesh": (
        *OWN_ACCOUNT, "credentials.allowAnonymousCallers=true", "istio.enabled=true", "istio.retries.attempts=0",
        "grpcRoute.enabled=true",
    ),
    "network-policy": ("networkPolicy.enabled=true", 'upstream.url="https://atoti.example/risk"'),
    "metrics": ("serviceMonitor.enabled=true", "prometheusRule.enabled=true"),
    "audit-to-stdout": ('audit={"log": "stdout", "required": false}',),
    "bare": (
        "podDisruptionBudget.enabled=false", "headlessService.enabled=false", "serviceAccount.create=false",
        "topologySpread.enabled=false", 'podAntiAffinity.mode="soft"', "replicaCount=1",
    ),
}
rendered = {}


def setUpModule():
    for name, values in CASES.items():
        text = render(*values)
        (pathlib.Path(os.environ["RENDERED"]) / f"{name}.yaml").write_text(text)
        rendered[name] = Rendered(text)


def leaves(values, schema=SCHEMA, path=()):
    """Every value that has a form of its own, by its path."""
    for key, value in values.items():
        form = schema.get("properties", {}).get(key, {})
        if "properties" in form:
            yield from leaves(value, form, (*path, key))
        else:
            yield (*path, key)


def in_every_rendering(test):
    """A test of all of them, each told by its name."""

    @functools.wraps(test)
    def each(self):
        for name, manifests in rendered.items():
            with self.subTest(name):
                test(self, manifests)

    return each


class EveryRendering(unittest.TestCase):
    """What holds whatever the values are."""

    @in_every_rendering
    def test_it_drains_before_the_kubelet_loses_patience(self, manifests):
        self.assertEqual(FLUSH_SECONDS, 3)
        drain = [manifests.environment[f"ATOTI_BRIDGE_DRAIN_{part}"] for part in ("DELAY", "GRACE")]
        needed = sum(map(seconds, drain)) + FLUSH_SECONDS
        self.assertLess(needed, manifests.pod["terminationGracePeriodSeconds"])
        self.assertNotIn("lifecycle", manifests.container, "a preStop hook would be added to the delay")

    @in_every_rendering
    def test_the_process_has_no_rights(self, manifests):
        pod, container = manifests.pod["securityContext"], manifests.container["securityContext"]
        self.assertEqual(
            (pod["runAsNonRoot"], pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"], pod["seccompProfile"]),
            (True, 65532, 65532, 65532, {"type": "RuntimeDefault"}),
        )
        self.assertEqual(
            container,
            {
                "allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        )
        self.assertIs(manifests.pod["automountServiceAccountToken"], False)
        self.assertIs(manifests.pod["enableServiceLinks"], False)
        for account in manifests.kinds("ServiceAccount").values():
            self.assertIs(account["automountServiceAccountToken"], False)
        self.assertIn("memory", manifests.container["resources"]["limits"])
        self.assertIn("cpu", manifests.container["resources"]["requests"])

    @in_every_rendering
    def test_callers_find_grpc_and_nothing_else(self, manifests):
        for name, service in manifests.kinds("Service").items():
            ports = [(port["name"], port["targetPort"]) for port in service["spec"]["ports"]]
            if name.endswith("-metrics"):
                self.assertEqual(ports, [("http-admin", "http-admin")])
                self.assertEqual(service["spec"]["clusterIP"], "None")
            else:
                self.assertEqual(ports, [("grpc", "grpc")])

    @in_every_rendering
    def test_names_and_labels_fit_together(self, manifests):
        deployment = manifests.one("Deployment")
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        selectors = [service["spec"]["selector"] for service in manifests.kinds("Service").values()]
        selectors.append(deployment["spec"]["selector"]["matchLabels"])
        for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
            selectors += [found["spec"][key]["matchLabels"] for found in manifests.kinds(kind).values()]
        for selector in selectors:
            self.assertGreaterEqual(labels.items(), selector.items())
        for scaler in manifests.kinds("HorizontalPodAutoscaler").values():
            self.assertEqual(scaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"])
            self.assertNotIn("replicas", deployment["spec"], "the scaler decides how many there are")
        for monitor in manifests.kinds("ServiceMonitor").values():
            wanted = monitor["spec"]["selector"]["matchLabels"]
            services = manifests.kinds("Service").items()
            found = [name for name, it in services if it["metadata"]["labels"].items() >= wanted.items()]
            self.assertEqual(found, ["bridge-atoti-grpc-bridge-metrics"])
        account = manifests.pod["serviceAccountName"]
        self.assertEqual(set(manifests.kinds("ServiceAccount")), {account} - {"default"})

    @in_every_rendering
    def test_the_ports_are_those_that_the_bridge_listens_on(self, manifests):
        ports = {port["name"]: port["containerPort"] for port in manifests.container["ports"]}
        listens = [manifests.environment[f"ATOTI_BRIDGE_{name}"] for name in ("LISTEN", "ADMIN_LISTEN")]
        self.assertEqual([int(listen.rsplit(":", 1)[1]) for listen in listens], [ports["grpc"], ports["http-admin"]])

    @in_every_rendering
    def test_probes_ask_the_port_that_can_answer(self, manifests):
        container = manifests.container
        for probe in ("startupProbe", "livenessProbe"):
            self.assertEqual(container[probe]["httpGet"], {"path": "/livez", "port": "http-admin"})
        ready = container["readinessProbe"]
        if "ATOTI_BRIDGE_TLS_CERT_FILE" in manifests.environment:
            self.assertEqual(ready["httpGet"], {"path": "/readyz", "port": "http-admin"})
            self.assertNotIn("grpc", ready)
        else:
            self.assertEqual(ready["grpc"]["port"], container["ports"][0]["containerPort"])

    @in_every_rendering
    def test_every_file_that_is_named_is_mounted_and_follows_its_source(self, manifests):
        mounts = {mount["mountPath"]: mount for mount in manifests.container.get("volumeMounts", [])}
        volumes = {volume["name"]: volume for volume in manifests.pod.get("volumes", [])}
        self.assertEqual({mount["name"] for mount in mounts.values()}, set(volumes))
        named = [value for name, value in manifests.environment.items() if name.endswith("_FILE")]
        self.assertEqual({path.rsplit("/", 1)[0] for path in named}, {path for path in mounts if FILES in path})
        for mount in mounts.values():
            self.assertNotIn("subPath", mount, "such a mount never changes")
            if "secret" in volumes[mount["name"]]:
                self.assertIs(mount["readOnly"], True)
                self.assertEqual(volumes[mount["name"]]["secret"]["defaultMode"], 0o440)


class TheBridgeItself(unittest.TestCase):
    """The settings, held against the binary that reads them."""

    @classmethod
    def setUpClass(cls):
        said = subprocess.run([BRIDGE, "serve", "--help"], capture_output=True, text=True, check=True, timeout=60)
        cls.known = set(re.findall(r"ATOTI_BRIDGE_[A-Z_]+", said.stdout))
        files = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        for folder in ("tls", "client-ca", "upstream-ca", "upstream-client", "credentials", "nodes", "audit"):
            (files / folder).mkdir()
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "1", "-subj", "/CN=test", "-keyout", files / "tls/tls.key", "-out", files / "tls/tls.crt",
            ],
            check=True, capture_output=True, timeout=60,
        )
        for copy in ("client-ca/ca.crt", "upstream-ca/ca.crt", "upstream-client/tls.crt"):
            shutil.copy(files / "tls/tls.crt", files / copy)
        shutil.copy(files / "tls/tls.key", files / "upstream-client/tls.key")
        for name in ("account", "credentials"):
            (files / "credentials" / name).write_text("user:password")
        cls.files = files

    def check(self, manifests, **changes):
        """`check` with the rendered settings: it opens no port, and ends with 64 when one is wrong."""
        for nodes in manifests.kinds("ConfigMap").values():
            (self.files / "nodes/nodes.json").write_text(nodes["data"]["nodes.json"])
        here = {
            name: value.replace(FILES, str(self.files)).replace("/var/log/atoti-grpc-bridge", f"{self.files}/audit")
            for name, value in manifests.environment.items()
        }
        scheme = here["ATOTI_BRIDGE_UPSTREAM_URL"].partition(":")[0]
        return subprocess.run(
            [BRIDGE, "check"], env={**here, "ATOTI_BRIDGE_UPSTREAM_URL": f"{scheme}://127.0.0.1:9", **changes},
            capture_output=True, text=True, timeout=60,
        )

    def test_it_knows_every_variable(self):
        self.assertGreater(len(self.known), 20)
        for name, manifests in rendered.items():
            with self.subTest(name):
                own = {name for name in manifests.environment if name.startswith("ATOTI_BRIDGE_")}
                self.assertEqual(own - self.known, set())

    def test_the_chart_has_a_value_for_every_setting(self):
        self.assertEqual(self.known - set(rendered["full"].environment), set())

    def test_it_takes_every_value(self):
        for name, manifests in rendered.items():
            with self.subTest(name):
                said = self.check(manifests)
                # 1: nobody answers there. Whatever is wrong with the settings would be 64.
                self.assertEqual(said.returncode, 1, said.stderr)
                self.assertIn("Is Atoti reachable?", said.stdout)

    def test_a_value_that_it_does_not_take_would_be_seen(self):
        said = self.check(rendered["full"], ATOTI_BRIDGE_MAX_DEADLINE="1 fortnight")
        self.assertEqual(said.returncode, 64)

    def test_it_refuses_what_the_chart_refuses(self):
        with self.assertRaisesRegex(Refused, "allowAnonymousCallers"):
            render(*OWN_ACCOUNT)
        said = self.check(rendered["own-account-in-a-mesh"], ATOTI_BRIDGE_ALLOW_ANONYMOUS_CALLERS="false")
        self.assertEqual(said.returncode, 64)
        self.assertIn("ATOTI_BRIDGE_ALLOW_ANONYMOUS_CALLERS", said.stderr)


class Pages(unittest.TestCase):
    def test_the_examples_of_the_page_are_manifests(self):
        # As the renderings, they are left for the validator.
        page = pathlib.Path("docs/DEPLOYMENT.md").read_text()
        examples = [textwrap.dedent(block) for block in re.findall(r"^ *```yaml\n(.*?)^ *```$", page, re.M | re.S)]
        self.assertGreater(len(examples), 2)
        for number, example in enumerate(examples):
            self.assertTrue(all("kind" in manifest for manifest in yaml.safe_load_all(example)), example)
            (pathlib.Path(os.environ["RENDERED"]) / f"page-{number}.yaml").write_text(example)


class Refusals(unittest.TestCase):
    """Values that are wrong, and what helm says."""

    def refused(self, why, *values, **more):
        with self.assertRaisesRegex(Refused, why):
            render(*values, **more)

    def test_times_that_do_not_add_up(self):
        message = r"terminationGracePeriodSeconds \(30\) must be more than .*\+ 3 s .*\(30\)"
        self.refused(message, "drain.graceSeconds=22")
        render("drain.graceSeconds=21")
        self.refused("would kill the bridge while it drains", "terminationGracePeriodSeconds=23")
        render("terminationGracePeriodSeconds=24")

    def test_values_that_do_not_go_together(self):
        for why, *values in [
            ("ask callers for certificates", *OWN_ACCOUNT),
            ("ask callers for certificates", *OWN_ACCOUNT, *SERVED_OVER_TLS),
            ("needs credentials.secretName", 'credentials.mode="jwt"'),
            ("credentials.secretName is used by", 'credentials.secretName="account"'),
            ("tls.clientCa needs tls.secretName", 'tls.clientCa.secretName="ca"'),
            ("tls.clientNames needs tls.clientCa", *SERVED_OVER_TLS, 'tls.clientNames=["a"]'),
            ("needs audit.volume", 'audit.log="file"'),
            ("audit.volume is used by", 'audit.volume={"emptyDir": {}}'),
            ("minReplicas is more", "autoscaling.enabled=true", "autoscaling.minReplicas=9"),
        ]:
            with self.subTest(why):
                self.refused(why, *values)

    def test_values_of_the_wrong_form(self):
        for why, value in [
            ("/limits/maxInFlight", 'limits.maxInFlight="many"'),
            ("/limits/maxDeadline", 'limits.maxDeadline="30"'),
            ("/drain/delaySeconds", 'drain.delaySeconds="5s"'),
            ("/credentials/mode", 'credentials.mode="kerberos"'),
            ("/upstream/url", 'upstream.url="atoti:9090"'),
            ("/upstream/url", 'upstream.url="http://user:password@atoti:9090"'),
            ("/nodes", 'nodes={"node-1": "atoti-1:9090"}'),
            ("/ports/grpc", "ports.grpc=0"),
            ("/log/accessLogRatio", "log.accessLogRatio=2"),
            ("/image/digest", 'image.digest="latest"'),
        ]:
            with self.subTest(value):
                self.refused(why, value)

    def test_a_typo_anywhere(self):
        def groups(schema, path=()):
            yield path
            for key, form in schema["properties"].items():
                if "properties" in form:
                    yield from groups(form, (*path, key))

        found = list(groups(SCHEMA))
        self.assertGreater(len(found), 20)
        for path in found:
            with self.subTest(path):
                self.refused("additional properties 'tpyo' not allowed", ".".join((*path, "tpyo")) + "=1")

    def test_a_kubernetes_without_grpc_probes(self):
        self.refused("kubeVersion", kubernetes="1.26.9")
        render(kubernetes="1.37.2-gke.100")


class Values(unittest.TestCase):
    """What single values do."""

    def test_the_full_values_are_full(self):
        full = set(leaves(yaml.safe_load(pathlib.Path(FULL_VALUES).read_text())))
        # Names would only hide how names are made; the Secret's key and the DNS of the cluster are as by default.
        left_out = {("nameOverride",), ("fullnameOverride",), ("image", "tag"), ("networkPolicy", "dnsTo")}
        self.assertEqual(set(leaves(VALUES)) - full, left_out)

    def test_nothing_is_said_to_the_bridge_that_is_its_own_default(self):
        self.assertNotIn("ATOTI_BRIDGE_MAX_IN_FLIGHT", rendered["default"].environment)
        self.assertEqual(rendered["full"].environment["ATOTI_BRIDGE_UPSTREAM_MAX_BODY"], "16777216")
        self.assertEqual(Rendered(render("log.accessLogRatio=0")).environment["ATOTI_BRIDGE_ACCESS_LOG_RATIO"], "0")

    def test_the_image_is_of_this_version_or_of_the_digest(self):
        self.assertEqual(rendered["default"].container["image"], f"atoti-grpc-bridge:{VERSION}")
        self.assertIn("@sha256:", rendered["full"].container["image"])
        self.assertEqual(rendered["default"].container["args"], ["serve"])

    def test_the_port_is_declared_as_what_it_speaks(self):
        for case, protocol in (("default", "grpc"), ("tls", "https")):
            for name, service in rendered[case].kinds("Service").items():
                self.assertEqual(service["spec"]["ports"][0]["appProtocol"], protocol, name)
        h2c = Rendered(render('service.appProtocol="kubernetes.io/h2c"'))
        self.assertEqual(
            {service["spec"]["ports"][0]["appProtocol"] for service in h2c.kinds("Service").values()},
            {"kubernetes.io/h2c"},
        )

    def test_the_headless_service_has_no_address_and_no_pod_that_is_not_ready(self):
        headless = rendered["default"].kinds("Service")["bridge-atoti-grpc-bridge-headless"]["spec"]
        self.assertEqual((headless["clusterIP"], headless["publishNotReadyAddresses"]), ("None", False))

    def test_pods_are_moved_one_at_a_time(self):
        self.assertEqual(rendered["default"].one("PodDisruptionBudget")["spec"]["maxUnavailable"], 1)
        update = rendered["default"].one("Deployment")["spec"]["strategy"]["rollingUpdate"]
        self.assertEqual(update, {"maxSurge": 1, "maxUnavailable": 0})

    def test_only_those_who_are_named_reach_the_admin_port(self):
        def sources(case):
            rules = rendered[case].one("NetworkPolicy")["spec"]["ingress"]
            return {port["port"]: rule.get("from") for rule in rules for port in rule["ports"]}

        self.assertEqual(sources("network-policy"), {"grpc": [{"podSelector": {}}]})
        monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        self.assertEqual(sources("full")["http-admin"], [monitoring])

    def test_the_bridge_reaches_atoti_the_collector_and_names_only(self):
        def ports(*values):
            policy = Rendered(render("networkPolicy.enabled=true", *values)).one("NetworkPolicy")["spec"]
            self.assertEqual(policy["policyTypes"], ["Ingress", "Egress"])
            return [sorted({port["port"] for port in rule["ports"]}) for rule in policy["egress"]]

        self.assertEqual(ports(), [[9090], [53]])
        self.assertEqual(ports('upstream.url="https://atoti.example/a:1/b"'), [[443], [53]])
        self.assertEqual(ports('upstream.url="http://[fd00::1]/"'), [[80], [53]])
        self.assertEqual(ports('upstream.url="http://[fd00::1]:81"'), [[81], [53]])
        self.assertEqual(
            ports('nodes={"a": "http://a:9091", "b": "http://b:9091"}', 'telemetry.otlp.endpoint="http://otel:4317"'),
            [[9090, 9091], [53], [4317]],
        )
        self.assertEqual(ports("networkPolicy.atotiPorts=[8080]"), [[8080], [53]])

    def test_istio_repeats_only_what_has_not_begun(self):
        for case in ("full", "own-account-in-a-mesh"):
            (route,) = rendered[case].one("VirtualService")["spec"]["http"]
            conditions = set(route["retries"].get("retryOn", "").split(",")) - {""}
            self.assertEqual(route["retries"]["attempts"] == 0, not conditions)
            self.assertLessEqual(conditions, {"connect-failure", "refused-stream"})
            outliers = rendered[case].one("DestinationRule")["spec"]["trafficPolicy"]["outlierDetection"]
            self.assertEqual((outliers["consecutive5xxErrors"], outliers["consecutiveGatewayErrors"]), (0, 0))
        (route,) = Rendered(render("istio.enabled=true")).one("VirtualService")["spec"]["http"]
        self.assertEqual(route["retries"]["retryOn"], "connect-failure,refused-stream")

    def test_a_route_without_a_gateway_is_the_meshs(self):
        (parent,) = rendered["own-account-in-a-mesh"].one("GRPCRoute")["spec"]["parentRefs"]
        service = rendered["own-account-in-a-mesh"].kinds("Service")[parent["name"]]
        self.assertEqual((parent["kind"], parent["port"]), ("Service", service["spec"]["ports"][0]["port"]))

    def test_rules_are_taken_from_the_chart_where_it_has_them(self):
        # Prometheus has braces of its own: helm must leave them alone.
        rules = (
            'groups:\n  - name: test\n    rules:\n      - alert: Test\n        expr: up == 0\n'
            '        annotations:\n          summary: "{{ $labels.pod }} is gone"\n'
        )
        with tempfile.TemporaryDirectory() as folder:
            chart = pathlib.Path(folder) / CHART.name
            shutil.copytree(CHART, chart)
            (chart / "files").mkdir(exist_ok=True)
            file = chart / "files/rules.yaml"
            file.unlink(missing_ok=True)
            self.assertEqual(Rendered(render("prometheusRule.enabled=true", chart=chart)).kinds("PrometheusRule"), {})
            file.write_text(rules)
            self.assertEqual(Rendered(render(chart=chart)).kinds("PrometheusRule"), {})
            text = render("prometheusRule.enabled=true", chart=chart)
            (pathlib.Path(os.environ["RENDERED"]) / "rules.yaml").write_text(text)
            self.assertEqual(Rendered(text).one("PrometheusRule")["spec"], yaml.safe_load(rules))

    def test_what_is_scraped_has_the_job_that_rules_ask_for(self):
        (endpoint,) = rendered["metrics"].one("ServiceMonitor")["spec"]["endpoints"]
        self.assertEqual(endpoint["relabelings"], [{"targetLabel": "job", "replacement": "atoti-grpc-bridge"}])
        for rules in CHART.glob("files/rules.yaml"):
            self.assertEqual(set(re.findall(r'job="([^"]+)"', rules.read_text())), {"atoti-grpc-bridge"})

    def test_an_audit_file_is_one_for_each_pod(self):
        full = rendered["full"]
        self.assertEqual(full.environment["ATOTI_BRIDGE_AUDIT_LOG"], "/var/log/atoti-grpc-bridge/$(POD_NAME).jsonl")
        names = [variable["name"] for variable in full.container["env"]]
        # Kubernetes puts in only what stands before.
        self.assertLess(names.index("POD_NAME"), names.index("ATOTI_BRIDGE_AUDIT_LOG"))
        self.assertEqual(rendered["audit-to-stdout"].environment["ATOTI_BRIDGE_AUDIT_LOG"], "stdout")

    def test_long_names_still_fit(self):
        for manifest in Rendered(render("serviceMonitor.enabled=true", FULL_VALUES, release="r" * 53)).all:
            self.assertLessEqual(len(manifest["metadata"]["name"]), 63)
