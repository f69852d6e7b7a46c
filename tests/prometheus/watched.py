"""What the tests here look at: the dashboard, the queries in it and in the rules, and a real Prometheus that scrapes
bridges. The bridges and their Atoti are those of tests/interop/programs.py."""

import json
import pathlib
import re
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from programs import PATIENCE, Bridge, eventually

ROOT = pathlib.Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy/grafana/atoti-grpc-bridge.json"
RULES = ROOT / "deploy/prometheus/rules.yaml"
RULES_TEST = ROOT / "deploy/prometheus/rules_test.yaml"
SCRAPE = ROOT / "deploy/prometheus/prometheus.yaml"
OPERATIONS = ROOT / "docs/OPERATIONS.md"

STRING = r"""'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" """
# A metric and the braces behind it; before it, what has letters and is none.
SELECTOR = re.compile(
    rf"""
    (?: {STRING} | \[[^]]*\] | \b\d[\w.]* )
    | (?P<name> [a-zA-Z_:][\w:]* ) \s* (?P<braces> \{{ (?: {STRING} | [^}}] )* \}} )? \s* (?P<call> \( )?
    """,
    re.VERBOSE,
)
GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")


def panels():
    """The panels that show something: all but the rows."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def targets():
    """Each query of each panel."""
    return [(panel, target) for panel in panels() for target in panel["targets"]]


def selectors(expression):
    """The metrics that an expression reads, each with the braces that choose among its series.

    Enough of PromQL for what is written here; what it takes for a metric by mistake is found nowhere and fails a test.
    """
    for found in SELECTOR.finditer(GROUPING.sub(" ", expression)):
        name = found["name"]
        if name and not found["call"] and name not in ("and", "or", "unless", "offset", "bool"):
            yield name, found["braces"] or ""


def promtool(*arguments, text=None):
    """What it printed, on both outputs, and its exit code."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)], input=text, text=True, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )
    return done.returncode, done.stdout


def fetch(url, **headers):
    """A body and its content type."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE) as response:
        return response.read().decode(), response.headers["content-type"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Watched(Bridge):
    """A bridge and its metrics."""

    def __init__(self, upstream_url, *flags, drain_delay="0s", **variables):
        super().__init__(upstream_url, *flags, drain_delay=drain_delay, environment=variables)

    def metrics(self, accept="*/*"):
        return fetch(f"http://{self.admin}/metrics", Accept=accept)


class Prometheus:
    """A real one, with the scrape configuration and the rules of deploy/, every second."""

    def __init__(self, folder, targets):
        self.folder = pathlib.Path(folder)
        (self.folder / "rules.yaml").write_text(RULES.read_text())
        text = SCRAPE.read_text()
        for old, new in [
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("evaluation_interval: 15s", "evaluation_interval: 1s"),
            ('["127.0.0.1:9464"]', json.dumps(targets)),
        ]:
            assert text.count(old) == 1, f"{old} is in {SCRAPE} once"
            text = text.replace(old, new)
        self.config = self.folder / "prometheus.yaml"
        self.config.write_text(text)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = open(self.folder / "prometheus.log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [
                "prometheus", f"--config.file={self.config}", f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}", "--enable-feature=exemplar-storage",
            ],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=self.folder,
        )
        eventually("Prometheus", self._ready)

    def _ready(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError(f"Prometheus ended: {self.log.read()}")
        try:
            return fetch(f"{self.url}/-/ready")
        except OSError:
            return None

    def get(self, path, **parameters):
        """An answer of its HTTP API; an error is one of the test, with what Prometheus says."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            answer = json.loads(fetch(url)[0])
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert answer["status"] == "success" and not answer.get("warnings"), answer
        return answer["data"]

    def query(self, expression):
        """The series of an expression now: labels and value."""
        data = self.get("query", query=expression)
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def stop(self):
        self.process.terminate()
        code = self.process.wait(PATIENCE)
        self.log.close()
        return code
