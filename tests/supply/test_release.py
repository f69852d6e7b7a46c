"""Holds a release against what deploy/release promises, and spoils copies of it: deploy/verify-release must see that."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import tomllib
import unittest
import zlib

RELEASE = pathlib.Path(os.environ["RELEASE"])
NAME = "atoti-grpc-bridge"


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def verify(folder, lock="Cargo.lock"):
    return run("deploy/verify-release", str(folder), str(lock))


class Release(unittest.TestCase):
    """What was made."""

    def test_it_is_whole(self):
        self.assertEqual({path.name for path in RELEASE.iterdir()},
                         {NAME, f"{NAME}.cdx.json", "LICENSE", "SHA256SUMS"})
        verified = verify(RELEASE)
        self.assertEqual(verified.returncode, 0, verified.stderr)

    def test_the_binary_runs_and_tells_its_version(self):
        version = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["package"]["version"]
        told = run(str(RELEASE / NAME), "--version")
        self.assertEqual((told.returncode, told.stdout.strip()), (0, f"{NAME} {version}"))

    def test_nothing_of_the_environment_comes_along(self):
        for path in RELEASE.iterdir():
            self.assertNotIn(b"canary-of-the-environment", path.read_bytes(), path.name)

    def test_the_sbom_is_cyclonedx_and_tells_of_licences(self):
        sbom = json.loads((RELEASE / f"{NAME}.cdx.json").read_text())
        self.assertEqual((sbom["bomFormat"], sbom["specVersion"]), ("CycloneDX", "1.5"))
        for component in sbom["components"]:
            self.assertTrue(component.get("licenses"), component["name"])
            self.assertTrue(component["purl"].startswith("pkg:cargo/"), component["purl"])


class Spoilt(unittest.TestCase):
    """What verify-release must see."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name) / "release"
        shutil.copytree(RELEASE, self.folder)

    def sum_up(self):
        """As whoever spoils it would."""
        files = [NAME, f"{NAME}.cdx.json", "LICENSE"]
        sums = subprocess.run(["sha256sum", *files], cwd=self.folder, capture_output=True, text=True, check=True)
        (self.folder / "SHA256SUMS").write_text(sums.stdout)

    def change_sbom(self, change):
        path = self.folder / f"{NAME}.cdx.json"
        sbom = json.loads(path.read_text())
        change(sbom)
        path.write_text(json.dumps(sbom))
        self.sum_up()

    def refused(self, why, lock="Cargo.lock"):
        verified = verify(self.folder, lock)
        self.assertEqual(verified.returncode, 1, "it is taken for good")
        self.assertIn(why, verified.stderr)

    def test_a_copy_that_is_not_spoilt_is_good(self):
        self.sum_up()
        self.assertEqual(verify(self.folder).returncode, 0)

    def test_a_byte_is_another(self):
        with (self.folder / NAME).open("r+b") as binary:
            binary.seek(-1, os.SEEK_END)
            last = binary.read(1)
            binary.seek(-1, os.SEEK_END)
            binary.write(bytes([last[0] ^ 1]))
        self.refused(f"does not have the sum of {NAME}")

    def test_a_file_is_added(self):
        (self.folder / "README").write_text("no sum")
        self.refused("does not have the sum of README")

    def test_a_file_is_missing(self):
        (self.folder / "LICENSE").unlink()
        self.refused("has a sum of LICENSE")

    def test_the_binary_is_one_without_a_list(self):
        shutil.copy(os.path.realpath("/bin/true"), self.folder / NAME)
        self.sum_up()
        self.refused("carries no list")

    def test_the_binary_is_no_program(self):
        (self.folder / NAME).write_text("#!/bin/sh\n")
        self.sum_up()
        self.refused("no 64-bit ELF file")

    def test_the_list_is_another(self):
        """A forbidden crate, in place of another one; the section keeps its length."""
        path = self.folder / NAME
        binary = path.read_bytes()
        stream, packages = self.embedded(binary)
        for package in packages["packages"]:
            if package["name"] == "tokio":
                package["name"] = "openssl"
        spoilt = zlib.compress(json.dumps(packages, separators=(",", ":")).encode(), 9)
        self.assertLessEqual(len(spoilt), len(stream))
        path.write_bytes(binary.replace(stream, spoilt.ljust(len(stream), b"\0"), 1))
        self.sum_up()
        self.refused("which deny.toml forbids")

    @staticmethod
    def embedded(binary):
        """The list, found without reading sections: the one stream in the file that unpacks to one."""
        at = binary.find(b"\x78")
        while at >= 0:
            unpack = zlib.decompressobj()
            try:
                text = unpack.decompress(binary[at:at + 1_000_000], 1_000_000)
                if text.startswith(b'{"packages":'):
                    used = min(len(binary) - at, 1_000_000) - len(unpack.unused_data)
                    return binary[at:at + used], json.loads(text)
            except zlib.error:
                pass
            at = binary.find(b"\x78", at + 1)
        raise AssertionError("there is no list")

    def test_a_component_is_missing_from_the_sbom(self):
        self.change_sbom(lambda sbom: sbom.update(
            components=[component for component in sbom["components"] if component["name"] != "rustls"]))
        self.refused("is in the binary and not in the SBOM")

    def test_a_component_too_many_is_in_the_sbom(self):
        extra = {"name": "left-pad", "version": "1.0.0", "purl": "pkg:cargo/left-pad@1.0.0"}
        self.change_sbom(lambda sbom: sbom["components"].append(extra))
        self.refused("left-pad 1.0.0 is in the SBOM, and the binary does not know it")

    def test_a_component_of_the_sbom_is_without_its_checksum(self):
        self.change_sbom(lambda sbom: sbom["components"][0].pop("hashes"))
        self.refused("is without its checksum")

    def test_the_lock_file_has_another_version(self):
        lock = self.folder.parent / "Cargo.lock"
        text = pathlib.Path("Cargo.lock").read_text()
        at = text.index('name = "tokio"')
        lock.write_text(text[:at] + text[at:].replace('version = "', 'version = "9', 1))
        self.refused("which Cargo.lock does not have", lock)


if __name__ == "__main__":
    unittest.main()
