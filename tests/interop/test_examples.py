"""The examples, each run by the commands of its row in examples/README.md, as a reader would."""

import os
import pathlib
import re
import signal
import subprocess
import tempfile

from programs import USER, Case

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
ROW = re.compile(r"\| \[(?P<language>\w+)\]\(.*?\) \| [^|]* \| (?:`(?P<once>[^|]*)` )?\| `(?P<run>[^|]*)` \|")
ROWS = {row["language"]: row for row in ROW.finditer((EXAMPLES / "README.md").read_text())}
DEFAULT = "127.0.0.1:50051"
# What is fetched and compiled on a machine that has nothing yet; and a run, which compiles in Rust and Go.
ONCE_SECONDS, RUN_SECONDS = 300, 240


class Examples(Case):
    def command(self, language, command, seconds, **environment):
        """Runs a command in the folder of its language, and yields what it printed."""
        environment = {**os.environ, **environment, "PATH": os.environ["EXAMPLES_PATH"]}
        # These tests have generated code of their own.
        del environment["PYTHONPATH"]
        process = subprocess.Popen(
            command, shell=True, cwd=EXAMPLES / language, env=environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )
        try:
            printed, complaints = process.communicate(timeout=seconds)
        finally:
            # What the shell has started does not end with it.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        self.assertEqual(process.returncode, 0, f"{command}\n{printed}\n{complaints}")
        return printed

    def tell_the_story(self, language):
        row = ROWS[language]
        if row["once"]:
            self.command(language, row["once"], ONCE_SECONDS)

        user = f"ada-{language}"
        others, oldest, newest = [self.atoti.start_query(username=name) for name in ["donald", user, user]]
        self.assertIn(DEFAULT, row["run"])
        with tempfile.NamedTemporaryFile("w") as authorization:
            print(USER, file=authorization, flush=True)
            printed = self.command(
                language, row["run"].replace(DEFAULT, f"{self.bridge.address} {user}"), RUN_SECONDS,
                AUTHORIZATION_FILE=authorization.name,
            )
        lines = printed.splitlines()
        self.assertEqual(lines[:3], [
            f"running: {newest} of {user}",
            f"running: {oldest} of {user}",
            f"cancel {oldest}: CANCEL_OUTCOME_CANCELLED",
        ], printed)
        self.assertRegex(lines[3], "^cancel 0: (NOT_FOUND|NotFound): .")
        self.assertEqual(lines[4:], ["  QUERY_NOT_FOUND, requestSent true, retryable false"], printed)

        running = self.atoti.running()
        self.assertNotIn(oldest, running)
        self.assertLessEqual({others, newest}, set(running))

    def test_rust(self):
        self.tell_the_story("rust")

    def test_python(self):
        self.tell_the_story("python")

    def test_go(self):
        self.tell_the_story("go")

    def test_java(self):
        self.tell_the_story("java")

    def test_node(self):
        self.tell_the_story("node")

    def test_every_example_is_tried(self):
        folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
        self.assertEqual(folders, set(ROWS))
        self.assertEqual({f"test_{language}" for language in ROWS} - set(dir(self)), set())
