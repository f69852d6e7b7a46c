"""The systemd unit, as systemd itself reads it. It is not started: that takes a machine that systemd runs."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from chart import FLUSH_SECONDS, seconds

UNIT = pathlib.Path("deploy/systemd/atoti-grpc-bridge.service")
# Of 10, lower is better; systemd calls everything below 2 OK.
EXPOSURE = 2.0


class Unit(unittest.TestCase):
    def setUp(self):
        lines = [line for line in UNIT.read_text().splitlines() if re.match(r"\w+=", line)]
        self.settings = [tuple(line.split("=", 1)) for line in lines]

    def setting(self, name):
        (value,) = [value for key, value in self.settings if key == name]
        return value

    def test_systemd_has_nothing_to_say_against_it(self):
        # The program has to be there for that: the unit is read with its path turned to the one that was built.
        program = self.setting("ExecStart").split()[0]
        with tempfile.TemporaryDirectory() as folder:
            unit = pathlib.Path(folder) / UNIT.name
            unit.write_text(UNIT.read_text().replace(program, os.environ["BRIDGE"]))
            said = subprocess.run(
                ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
            )
        self.assertEqual((said.returncode, said.stdout + said.stderr), (0, ""))

    def test_little_is_left_to_it(self):
        said = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
            capture_output=True, text=True, timeout=60,
        )
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
        self.assertTrue(exposure, said)
        self.assertLess(float(exposure[1]), EXPOSURE)

    def test_it_drains_before_systemd_loses_patience(self):
        drain = dict(word.split("=", 1) for word in self.setting("Environment").split())
        needed = seconds(drain["ATOTI_BRIDGE_DRAIN_DELAY"]) + seconds(drain["ATOTI_BRIDGE_DRAIN_GRACE"]) + FLUSH_SECONDS
        self.assertGreater(seconds(self.setting("TimeoutStopSec")), needed)

    def test_settings_of_the_administrator_come_after_those_of_the_unit(self):
        # systemd itself lets EnvironmentFile win over Environment; the page says that it can be counted on.
        self.assertEqual(self.setting("EnvironmentFile"), "-/etc/atoti-grpc-bridge/environment")

    def test_wrong_settings_are_not_tried_again(self):
        self.assertEqual(self.setting("RestartPreventExitStatus"), "64")
        refused = subprocess.run(
            [os.environ["BRIDGE"], "serve"], env={"ATOTI_BRIDGE_DRAIN_GRACE": "fifteen"},
            capture_output=True, timeout=60,
        )
        self.assertEqual(refused.returncode, 64)
