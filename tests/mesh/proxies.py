"""What stands between a caller and Atoti here: a proxy, with a file of deploy/proxies, and two bridges behind it."""

import collections
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
import urllib.request

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from atoti.queryhistory.v1 import query_history_pb2 as pb
from atoti.queryhistory.v1 import query_history_pb2_grpc
from programs import PATIENCE, SERVICE, USER, Bridge, Simulator, eventually

EXAMPLES = pathlib.Path("deploy/proxies")
CERTIFICATES = "/etc/atoti-grpc-bridge/tls"
CALLER = "spiffe://example.org/caller"
LOGIN = [("authorization", USER)]


def free_port():
    """A port below those that the kernel gives to outgoing connections: it is still free after a restart."""
    for port in random.sample(range(20000, 30000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no port is free")


class Certificates:
    """An authority, a certificate of the bridges, and one of the proxy, in PEM files."""

    OPENSSL = """
        [req]
        distinguished_name = name
        prompt = no
        [name]
        O = test
        [authority]
        basicConstraints = critical, CA:TRUE
        keyUsage = critical, keyCertSign
        [bridge]
        basicConstraints = critical, CA:FALSE
        extendedKeyUsage = serverAuth
        subjectAltName = DNS:bridge.example.org, URI:spiffe://example.org/atoti-grpc-bridge
        [proxy]
        basicConstraints = critical, CA:FALSE
        extendedKeyUsage = clientAuth
        subjectAltName = URI:%s
        """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self._openssl_config = self.folder / "openssl.cnf"
        self._openssl_config.write_text(self.OPENSSL % CALLER)
        self._make("ca", "authority")
        for name in ["bridge", "proxy"]:
            self._make(name, name, "-CA", self.folder / "ca.pem", "-CAkey", self.folder / "ca-key.pem")
        pair = [(self.folder / name).read_text() for name in ["proxy.pem", "proxy-key.pem"]]
        (self.folder / "proxy-with-key.pem").write_text("".join(pair))

    def _make(self, name, extensions, *signed_by):
        subprocess.run(
            ["openssl", "req", "-x509", "-config", self._openssl_config, "-extensions", extensions, "-days", "2",
             "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *signed_by,
             "-keyout", self.folder / f"{name}-key.pem", "-out", self.folder / f"{name}.pem"],
            check=True, capture_output=True,
        )

    def of_bridge(self):
        """As a deployment gives them to a bridge."""
        return {
            "ATOTI_BRIDGE_TLS_CERT_FILE": str(self.folder / "bridge.pem"),
            "ATOTI_BRIDGE_TLS_KEY_FILE": str(self.folder / "bridge-key.pem"),
            "ATOTI_BRIDGE_TLS_CLIENT_CA_FILE": str(self.folder / "ca.pem"),
        }


class Replica:
    """A bridge that comes back on the same ports, as often as it is restarted."""

    def __init__(self, upstream_url, certificates, *flags, drain_delay="0s"):
        self.upstream_url, self.certificates, self.flags, self.drain_delay = (
            upstream_url, certificates, flags, drain_delay,
        )
        self.port, self.admin_port = free_port(), free_port()
        self.runs, self.killed = [], False
        self.start()

    def start(self, *flags):
        self.runs.append(Bridge(
            self.upstream_url, *self.flags, *flags, environment=self.certificates.of_bridge(),
            listen=f"127.0.0.1:{self.port}", admin_listen=f"127.0.0.1:{self.admin_port}",
            drain_delay=self.drain_delay,
        ))
        eventually("the bridge to be ready", self.ready)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def bridge(self):
        return self.runs[-1]

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/readyz", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def restart(self):
        code = self.bridge.stop()
        assert code == 0, f"a bridge ended with {code}"
        self.start()

    def kill(self):
        self.bridge.process.kill()
        self.bridge.ended()
        self.killed = True

    def stop(self):
        code = self.bridge.stop()
        return 0 if self.killed else code

    def lines(self, fits):
        """The log lines and audit records of all its runs."""
        lines = [json.loads(line) for run in self.runs for line in list(run.lines) if line.startswith("{")]
        return [line for line in lines if fits(line)]

    def audit(self):
        return self.lines(lambda line: "operation" in line)


class Proxy:
    """A proxy with a file of deploy/proxies, where only addresses and paths are others. `changes` are of one test."""

    FILE = None

    def __init__(self, folder, replicas, certificates, changes=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.port = free_port()
        text = (EXAMPLES / self.FILE).read_text()
        for old, new in [
            (CERTIFICATES, str(certificates.folder)), *self.substitutes(replicas), *(changes or {}).items(),
        ]:
            assert old in text, f"{self.FILE} has no {old!r}"
            text = text.replace(old, new)
        self.config = self.folder / self.FILE
        self.config.write_text(text)
        self.output = self.folder / "output"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder,
            )
        eventually(f"{self.FILE}: {self.output}", self._up)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _up(self):
        assert self.process.poll() is None, self.output.read_text()
        return self.up()

    def up(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Envoy(Proxy):
    FILE = "envoy.yaml"

    def substitutes(self, replicas):
        self.admin_port = free_port()
        self.access = self.folder / "access.json"
        return [
            ("port_value: 50050", f"port_value: {self.port}"),
            ("port_value: 9901", f"port_value: {self.admin_port}"),
            ("/dev/stdout", str(self.access)),
            *((f"address: 192.0.2.{number}, port_value: 50051", f"address: 127.0.0.1, port_value: {replica.port}")
              for number, replica in enumerate(replicas, 1)),
        ]

    def command(self):
        # Without a base id of its own, a second Envoy on the machine would get in the way.
        return [os.environ["ENVOY"], "-c", str(self.config), "--concurrency", "2", "--use-dynamic-base-id",
                "--file-flush-interval-msec", "100", "--log-level", "warning"]

    def up(self):
        return super().up() and all(host["healthy"] for host in self.hosts().values())

    def admin(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=PATIENCE) as answer:
            return answer.read().decode()

    def hosts(self):
        """What Envoy thinks of each bridge, by its address."""
        try:
            [cluster] = json.loads(self.admin("/clusters?format=json"))["cluster_statuses"]
        except OSError:
            return {"nothing yet": {"healthy": False}}
        return {
            "{address}:{port_value}".format(**host["address"]["socket_address"]): {
                "healthy": host["health_status"].get("eds_health_status") == "HEALTHY"
                and not {"failed_active_health_check", "failed_outlier_check"} & set(host["health_status"]),
                "ejected": bool(host["health_status"].get("failed_outlier_check")),
            }
            for host in cluster["host_statuses"]
        }

    def stats(self, part):
        stats = json.loads(self.admin(f"/stats?format=json&filter={part}"))["stats"]
        return {stat["name"]: stat["value"] for stat in stats if "value" in stat}

    def log(self):
        lines = self.access.read_text().splitlines() if self.access.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def logged(self, request_id):
        """The access line of a call."""

        def look():
            return [line for line in self.log() if line["request_id"] == request_id]

        [line] = eventually("an access line", look)
        return line


class Nginx(Proxy):
    FILE = "nginx.conf"

    def substitutes(self, replicas):
        return [
            ("127.0.0.1:50050", self.address),
            ("/run/nginx-bridges.pid", str(self.folder / "nginx.pid")),
            *((f"192.0.2.{number}:50051", replica.address) for number, replica in enumerate(replicas, 1)),
        ]

    def command(self):
        return [shutil.which("nginx"), "-p", str(self.folder), "-e", "stderr", "-c", str(self.config),
                "-g", "daemon off;"]


class HAProxy(Proxy):
    FILE = "haproxy.cfg"

    def substitutes(self, replicas):
        return [
            ("127.0.0.1:50050", self.address),
            *((f"192.0.2.{number}:50051 port 9464", f"{replica.address} port {replica.admin_port}")
              for number, replica in enumerate(replicas, 1)),
        ]

    def command(self):
        return [shutil.which("haproxy"), "-db", "-f", str(self.config)]


class Case(unittest.TestCase):
    """A simulated Atoti, two bridges, a proxy, and a caller with a channel to it. Anew for each test."""

    PROXY = None

    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.certificates = Certificates(self.folder)
        self.programs = []
        self.addCleanup(self.stop_all)

    def up(self, *flags, queries=0, upstreams=(None, None), drain_delay="0s", changes=None):
        """Starts everything. An upstream other than None is the base URL of that bridge."""
        self.atoti = Simulator(queries=queries)
        self.programs.append(self.atoti)
        self.replicas = []
        for url in upstreams:
            replica = Replica(url or self.atoti.url, self.certificates, *flags, drain_delay=drain_delay)
            self.replicas.append(replica)
            self.programs.append(replica)
        self.proxy = self.start_proxy(changes)
        self.channel = self.enterContext(grpc.insecure_channel(self.proxy.address))
        self.stub = query_history_pb2_grpc.QueryHistoryServiceStub(self.channel)

    def start_proxy(self, changes=None):
        proxy = self.PROXY(self.folder, self.replicas, self.certificates, changes)
        self.programs.append(proxy)
        return proxy

    def stop_all(self):
        codes = {}
        while self.programs:
            program = self.programs.pop()
            codes[f"{type(program).__name__} {len(codes)}"] = program.stop()
        # nginx and HAProxy say 0 or the signal; the rest says 0.
        self.assertLessEqual(set(codes.values()), {0, -signal.SIGTERM, 128 + signal.SIGTERM}, codes)

    def cancel(self, query, *metadata, timeout=PATIENCE, **fields):
        request = pb.CancelQueryRequest(query_id=query, **fields)
        return self.stub.CancelQuery.with_call(request, timeout=timeout, metadata=[*LOGIN, *metadata])

    def failure(self, query, *metadata, **arguments):
        """A failed cancel: the call, and its details by their type."""
        with self.assertRaises(grpc.RpcError) as raised:
            self.cancel(query, *metadata, **arguments)
        return raised.exception, self.details(raised.exception)

    def details(self, call):
        details = {}
        status = rpc_status.from_call(call)
        for packed in status.details if status else []:
            detail = getattr(error_details_pb2, packed.TypeName().rsplit(".", 1)[-1])()
            self.assertTrue(packed.Unpack(detail))
            details[type(detail).__name__] = detail
        return details

    def patches(self):
        """How often each query was told to stop, in the ids' order of arrival."""
        targets = [request["target"] for request in self.atoti.requests() if request["method"] == "PATCH"]
        return collections.Counter(target.rsplit("/", 1)[-1] for target in targets)

    def without_timer(self, query, timeout, request_id):
        """A cancel by curl, which sends `grpc-timeout` and keeps no time itself: the headers and trailers that came."""
        message = pb.CancelQueryRequest(query_id=query).SerializeToString()
        body = b"\0" + len(message).to_bytes(4, "big") + message
        run = subprocess.run(
            ["curl", "--silent", "--show-error", "--http2-prior-knowledge", "--max-time", str(PATIENCE),
             "--header", "content-type: application/grpc", "--header", "te: trailers",
             "--header", f"authorization: {USER}", "--header", f"grpc-timeout: {timeout}",
             "--header", f"x-request-id: {request_id}", "--data-binary", "@-", "--dump-header", "-", "--output",
             os.devnull, f"http://{self.proxy.address}/{SERVICE}/CancelQuery"],
            input=body, capture_output=True, check=True,
        )
        lines = [line.split(": ", 1) for line in run.stdout.decode().splitlines() if ": " in line]
        return {name.lower(): value for name, value in lines}
