"""Contestants under callgrind, which counts their instructions."""


class Counted:
    """Mixed into a contestant. callgrind shows it the same processor on every x86-64 with AVX2, so that the C library
    copies alike."""

    options = []

    def run(self, *command, **arguments):
        self.file = self.folder / "callgrind.out"
        super().run("valgrind", "--tool=callgrind", f"--callgrind-out-file={self.file}",
                    f"--log-file={self.folder}/valgrind.log", *self.options, *command, **arguments)

    def written(self):
        """The lines that callgrind has written; ends the contestant, as they are written then."""
        self.program.stop()
        return self.file.read_text(encoding="utf-8").splitlines()
