"""What goes into the image: the Dockerfile says it, and the binary that its build makes is run as the image would.

There is no container engine here. The root that the binary is run in is as a container's: it holds the binary, the
authorities for TLS and a hosts file, is mounted read-only, and the process is user 65532 without capabilities.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest

from programs import BRIDGE, PATIENCE, USER, Bridge, Simulator, eventually

DOCKERFILE = pathlib.Path("deploy/Dockerfile").read_text()
CARGO = tomllib.loads(pathlib.Path("Cargo.toml").read_text())
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
# $0 is the root, $1 the binary outside of it, and the rest its arguments. exec all the way: signals reach the bridge.
IN_THE_IMAGE = """
mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && shift &&
exec setpriv --no-new-privs chroot --userspec=65532:65532 "$0" /atoti-grpc-bridge "$@"
"""


def run(*arguments, **more):
    return subprocess.run([BRIDGE, *arguments], capture_output=True, text=True, timeout=PATIENCE, **more)


class Dockerfile(unittest.TestCase):
    def setUp(self):
        code = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
        words = [line.split(maxsplit=1) for line in code]
        last = max(index for index, (word, _) in enumerate(words) if word == "FROM")
        self.build = words[:last]
        self.image = {word: rest for word, rest in words[last:]}
        self.copied = [rest for word, rest in words[last:] if word == "COPY"]

    def test_it_builds_by_the_script_that_is_tried_here(self):
        self.assertTrue(any(word == "RUN" and "$(deploy/build-static)" in rest for word, rest in self.build))

    def test_its_rust_is_not_older_than_the_crate_wants(self):
        rust = re.search(r"rust:(\d+)\.(\d+)", dict(self.build)["FROM"]).groups()
        self.assertGreaterEqual(tuple(map(int, rust)), tuple(map(int, CARGO["package"]["rust-version"].split(".")[:2])))

    def test_nothing_runs_in_the_image_but_the_bridge_and_nobody_is_root(self):
        self.assertEqual(self.image["FROM"], "scratch")
        copied = [rest.split()[-1] for rest in self.copied]
        self.assertEqual(copied, ["/etc/ssl/certs/ca-certificates.crt", "/atoti-grpc-bridge"])
        self.assertEqual(self.image["USER"], "65532:65532")
        self.assertNotIn("RUN", self.image)
        # The exec form is JSON: with a shell between, SIGTERM would not arrive.
        self.assertEqual(json.loads(self.image["ENTRYPOINT"]), ["/atoti-grpc-bridge"])
        self.assertEqual(json.loads(self.image["CMD"]), ["serve"])

    def test_it_listens_where_a_container_is_reached(self):
        environment = dict(word.split("=", 1) for word in self.image["ENV"].split())
        self.assertEqual(set(environment), {"ATOTI_BRIDGE_LISTEN", "ATOTI_BRIDGE_ADMIN_LISTEN"})
        for address in environment.values():
            self.assertTrue(address.startswith("0.0.0.0:"), address)


class Binary(unittest.TestCase):
    def test_it_is_static(self):
        def readelf(what):
            return subprocess.run(["readelf", what, BRIDGE], capture_output=True, text=True, check=True).stdout

        self.assertIn("LOAD", readelf("--segments"))
        self.assertNotIn("INTERP", readelf("--segments"))
        self.assertNotIn("NEEDED", readelf("--dynamic"))

    def test_it_is_this_version(self):
        self.assertEqual(run("--version").stdout, f"atoti-grpc-bridge {CARGO['package']['version']}\n")


class Image(unittest.TestCase):
    """The static binary at work where there is nothing else."""

    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.root.chmod(0o755)
        shutil.copy(BRIDGE, self.root / "atoti-grpc-bridge")
        (self.root / AUTHORITIES).parent.mkdir(parents=True)
        shutil.copy(f"/{AUTHORITIES}", self.root / AUTHORITIES)
        # Every container gets one.
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        self.atoti = Simulator()
        self.addCleanup(self.end, self.atoti)
        # By name: the resolver of the libc is part of what is tried.
        url = self.atoti.url.replace("127.0.0.1", "localhost")
        self.bridge = Bridge(url, prefix=("unshare", "--mount", "sh", "-c", IN_THE_IMAGE, str(self.root)))
        self.addCleanup(self.end, self.bridge)

    @staticmethod
    def end(program):
        """What a test that failed has left running."""
        if program.process.poll() is None:
            program.process.kill()
            program.stop()

    def health(self):
        return run("healthcheck", "--address", self.bridge.address)

    def test_it_serves_without_rights_and_ends_well(self):
        proc = pathlib.Path("/proc") / str(self.bridge.process.pid)
        status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
        self.assertEqual(set(status["Uid"].split()) | set(status["Gid"].split()), {"65532"})
        self.assertEqual({int(status[name], 16) for name in ("CapPrm", "CapEff")}, {0})
        self.assertEqual(status["NoNewPrivs"], "1")
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
        options = {mount[4]: mount[5].split(",") for mount in mounts}
        self.assertIn("ro", options["/"])

        serving = eventually("SERVING", lambda: (seen := self.health()).returncode == 0 and seen)
        self.assertEqual(serving.stdout.strip(), "SERVING")

        query = self.atoti.start_query()
        authorization = self.root.parent / f"{self.root.name}.authorization"
        authorization.write_text(USER)
        self.addCleanup(os.remove, authorization)
        cancelled = run(
            "query", "cancel", query, "--wait=5s", "--reason=test", "--output=json",
            f"--address={self.bridge.address}", f"--authorization-file={authorization}",
        )
        self.assertEqual(cancelled.returncode, 0, cancelled.stderr)
        self.assertIn("CANCEL_OUTCOME_CANCELLED", cancelled.stdout)
        self.assertNotIn(query, self.atoti.running())

        # SIGTERM, as a kubelet sends it.
        self.assertEqual(self.bridge.stop(), 0)
        self.assertEqual(self.health().returncode, 1)
        self.assertEqual(self.atoti.stop(), 0)
