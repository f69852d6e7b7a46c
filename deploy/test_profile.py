"""A profile is used where it fits, and never in silence where it does not: see profile.sh."""

import os
import pathlib
import subprocess
import tempfile
import unittest

FLAGS = {"RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"}
SHELL = pathlib.Path("deploy/profile.sh").resolve()


class Profile(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="with blanks ")))
        for name in ["Cargo.toml", "Cargo.lock"]:
            (self.root / name).write_text("as it was\n")

    def shell(self, script):
        """Runs it in the folder: the exit code, what it printed, and what it told."""
        environment = {name: value for name, value in os.environ.items() if name not in FLAGS}
        done = subprocess.run(["bash", "-c", f'set -euo pipefail; source "$1"; {script}', "bash", SHELL],
                              cwd=self.root, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def train(self, seen=""):
        """Leaves what deploy/train leaves."""
        self.shell('mkdir -p deploy/profile/one; profile_is_for >deploy/profile/one/is-for')
        (self.root / "deploy/profile/one/bridge.profdata").write_text(seen)

    def flags(self, before=""):
        return self.shell(f'{before}use_profile one; printf "%s" "${{CARGO_ENCODED_RUSTFLAGS:-}}"')

    def test_one_that_fits_is_used_beside_other_flags(self):
        self.train()
        flags = "\x1f".join([
            f"-Cprofile-use={self.root}/deploy/profile/one/4294967295-0.profdata",
            "-Cllvm-args=-hot-callsite-threshold=600",
            "-Clink-arg=-Wl,-z,keep-text-section-prefix",
        ])
        self.assertEqual(self.flags(), (0, flags, ""))
        self.assertEqual(self.flags('RUSTFLAGS="-Cone -Ctwo"; '), (0, f"-Cone\x1f-Ctwo\x1f{flags}", ""))

    def test_another_one_is_another_flag_and_the_file_is_there(self):
        used = set()
        for seen in ["one", "another"]:
            self.train(seen)
            _, flags, _ = self.flags()
            profile = flags.split("\x1f")[0].removeprefix("-Cprofile-use=")
            self.assertEqual(pathlib.Path(profile).read_text(), seen)
            used.add(profile)
        self.assertEqual(len(used), 2)

    def test_that_there_is_none_is_told(self):
        code, flags, told = self.flags()
        self.assertEqual((code, flags), (0, ""))
        self.assertIn("built without a profile", told)

    def test_one_for_something_else_is_refused(self):
        for changed in ["Cargo.toml", "Cargo.lock"]:
            with self.subTest(changed=changed):
                self.train()
                (self.root / changed).write_text("as it is now\n")
                code, flags, told = self.flags()
                self.assertEqual((code, flags), (1, ""))
                self.assertIn("run deploy/train again", told)

    def test_one_of_another_compiler_is_refused(self):
        self.train()
        code, flags, _ = self.flags("rustc() { echo another; }; ")
        self.assertEqual((code, flags), (1, ""))


if __name__ == "__main__":
    unittest.main()
