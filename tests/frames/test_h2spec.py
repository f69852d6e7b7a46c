"""h2spec against the bridge, in plain text and over TLS: every case passes, or is listed with the reason why not.

The list is exceptions.json. A case that fails and is not in it fails the test, and so does one that is in it and
passes. Strict cases, which follow from what RFC 9113 recommends, are run too.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

from pausing import Relay
from programs import Bridge, Simulator

H2SPEC = os.environ["H2SPEC"]
EXCEPTIONS = json.loads((pathlib.Path(__file__).parent / "exceptions.json").read_text())
# As many as this version has. When it has fewer, it has given up half-way.
CASES = 146


class H2spec(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.atoti = Simulator()
        self.addCleanup(self.atoti.stop)

    def outcomes(self, bridge, *flags):
        """How each case went: nothing where it passed, else what h2spec says."""
        relay = Relay(int(bridge.address.rsplit(":", 1)[1]))
        self.addCleanup(relay.close)
        report = self.folder / "report.xml"
        done = subprocess.run(
            [H2SPEC, "--strict", "--timeout=1", f"--port={relay.port}", f"--junit-report={report}", *flags,
             "generic", "http2", "hpack"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )
        self.assertTrue(report.exists(), done.stdout)
        outcomes = {}
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('package')}: {case.get('classname')}"
            said = [f"{one.tag} {one.text or ''}".strip() for one in case]
            outcomes[name] = "\n".join(said)
        self.assertEqual(len(outcomes), CASES, done.stdout)
        return outcomes

    def check(self, outcomes):
        failed = {name: said for name, said in outcomes.items() if said}
        for name, said in failed.items():
            with self.subTest(name):
                self.assertIn(name, EXCEPTIONS, f"not an exception that is listed: {said}")
                self.assertTrue(said.startswith(EXCEPTIONS[name]["outcome"]), said)
        self.assertEqual(sorted(set(EXCEPTIONS) - set(failed)), [], "listed as exceptions, but they pass now")

    def test_plain_text(self):
        bridge = Bridge(self.atoti.url)
        self.check(self.outcomes(bridge))
        self.assertEqual(bridge.stop(), 0, "and it ends well")

    def test_tls(self):
        pair = [self.folder / name for name in ("cert.pem", "key.pem")]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-out", pair[0], "-keyout", pair[1]],
            check=True, stderr=subprocess.DEVNULL,
        )
        bridge = Bridge(self.atoti.url, f"--tls-cert-file={pair[0]}", f"--tls-key-file={pair[1]}")
        self.check(self.outcomes(bridge, "--tls", "--insecure"))
        self.assertEqual(bridge.stop(), 0, "and it ends well")

    def test_every_exception_has_its_reason(self):
        for name, exception in EXCEPTIONS.items():
            with self.subTest(name):
                self.assertEqual(set(exception), {"outcome", "why", "instead"})
                # The test that looks at the matter all the same.
                module, test = exception["instead"].split("::")
                text = pathlib.Path(f"tests/suite/{module}.rs").read_text()
                self.assertIn(f"fn {test}()", text)
