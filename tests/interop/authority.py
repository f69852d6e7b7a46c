"""A certificate authority of the tests' own, by openssl."""

import pathlib
import subprocess


class Authority:
    def __init__(self, folder, name):
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir()
        self.ca = str(self.folder / "ca.pem")
        self._openssl("req", "-x509", *self._new("ca"), "-out", self.ca, "-days", "2", "-subj", f"/CN={name}")

    def _openssl(self, *arguments):
        run = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr

    def _new(self, name):
        # Every library reads keys of this kind.
        key = str(self.folder / f"{name}.key")
        self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        return ["-new", "-key", key]

    def issue(self, name, alternatives):
        """A certificate and its key."""
        request, certificate = self.folder / f"{name}.csr", self.folder / f"{name}.pem"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternatives}\nbasicConstraints=CA:FALSE\n")
        self._openssl("req", *self._new(name), "-out", str(request), "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", str(request), "-CA", self.ca, "-CAkey", str(self.folder / "ca.key"),
                      "-CAcreateserial", "-out", str(certificate), "-days", "1", "-extfile", str(extensions))
        return str(certificate), str(self.folder / f"{name}.key")
