"""Who is measured, and how each is set up: one class each, with a name for tables and how it is called."""

import contextlib
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from comparison import processes
from comparison.processes import Program

NGINX = """
daemon off; {mode} pid {folder}/nginx.pid; error_log {folder}/nginx.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 1000000000;
  upstream rest {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://rest; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


class Contestant:
    """Something between callers and the upstream. `part` is the part of the rig that calls it, `call` what it calls."""

    name = ""
    part, call = "load", None
    # Calls at once that it is of interest for.
    least = 1

    def __init__(self, upstream, cores):
        self.upstream, self.cores = upstream, cores
        self._stack = contextlib.ExitStack()
        self.folder = pathlib.Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.program, self.port = None, processes.free_port()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        raise NotImplementedError

    def run(self, *command, **arguments):
        """Starts the program, and waits until it listens."""
        self.program = Program(self.cores, *command, **arguments)
        self._stack.callback(self.program.stop)
        processes.await_listener(self.port, self.program)

    def pids(self):
        return processes.tree(self.program.pid)

    def between(self):
        """What is to be done between two runs."""

    def stop(self):
        self._stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Floor(Contestant):
    name, call = "floor", "cancel"

    def start(self):
        self.run(os.environ["RIG"], "floor", f"--listen={self.address}", f"--upstream={self.upstream}",
                 stdout=subprocess.DEVNULL)


class Bridge(Contestant):
    """As it is by default, with log lines as JSON to a pipe and audit records to a file."""

    name, call = "bridge", "cancel"
    program_is, ratio, more = "BRIDGE", 0.01, []

    def start(self):
        self.trail = self.folder / "audit.log"
        command = [
            os.environ[self.program_is], "serve", f"--listen={self.address}", "--admin-listen=127.0.0.1:0",
            "--drain-delay=0s", "--log-format=json", f"--audit-log={self.trail}", f"--access-log-ratio={self.ratio}",
            f"--upstream-url=http://{self.upstream}", *self.more,
        ]
        # Whoever reads the lines takes no time from the bridge.
        reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        os.sched_setaffinity(reader.pid, {max(os.sched_getaffinity(0))})
        self._stack.callback(reader.wait)
        self._stack.callback(reader.stdin.close)
        self.run(*command, stderr=reader.stdin)

    def between(self):
        # Else a long run fills the disk.
        os.truncate(self.trail, 0)


class EveryLine(Bridge):
    name = "bridge, every line"
    ratio = 1


class Plain(Bridge):
    """As whoever builds it by cargo alone has it."""

    name, program_is = "bridge, by cargo alone", "PLAIN"


class Roomy(Bridge):
    """Set up for more callers than it admits by default: it lets all in, and has them wait for their turn."""

    name, more, least = "bridge, room for all", ["--max-in-flight=8192"], 129


class Full(Bridge):
    """Set up for one call at a time."""

    name, more = "bridge, full", ["--max-in-flight=1"]

    @contextlib.contextmanager
    def filled(self, cores):
        """Has it at work on one call for as long as the upstream takes."""
        filling = Program(cores, os.environ["RIG"], "load", f"--target={self.address}", f"--call={self.call}",
                          "--calls=1", "--seconds=60", "--warmup=0", stdout=subprocess.DEVNULL)
        try:
            time.sleep(1)
            yield
        finally:
            filling.stop()


class Nginx(Contestant):
    """A plain proxy: HTTP/1.1 on both sides, connections kept."""

    name, part = "nginx", "rest"
    mode = "worker_processes 1;"

    def start(self):
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, port=self.port, upstream=self.upstream,
                                       mode=self.mode))
        self.run(shutil.which("nginx"), "-c", config, "-p", self.folder, stderr=subprocess.DEVNULL)


class Direct(Contestant):
    """Nobody: the upstream itself."""

    name, part = "direct", "rest"

    def start(self):
        self.port = int(self.upstream.rsplit(":", 1)[1])

    def pids(self):
        return []


class Adapted(Contestant):
    """A peer, set up as the conformance suite does it."""

    adapter = ""

    def start(self):
        contestant = self

        class Pinned(importlib.import_module(f"adapters.{self.adapter}").Adapter):
            concurrency = len(self.cores.split(","))

            def spawn(self, *command, **arguments):
                process, log = super().spawn("taskset", "--cpu-list", contestant.cores, *command, **arguments)
                contestant.process = process
                return process, log

        adapter = Pinned()
        self._stack.callback(adapter.stop)
        adapter.prepare()
        self.port = int(adapter.start(self.upstream).rsplit(":", 1)[1])

    def pids(self):
        return processes.tree(self.process.pid)


class Envoy(Adapted):
    name, adapter, call = "Envoy, transcoder alone", "envoy_plain", "transcoded"


class EnvoyWithAll(Adapted):
    name, adapter, call = "Envoy, all its settings", "envoy", "transcoded-by-id"


class Vanguard(Adapted):
    name, adapter, call = "vanguard-go", "vanguard", "transcoded"


GRPC = [Floor, Bridge, EveryLine, Envoy, EnvoyWithAll, Vanguard]
ALL = [*GRPC, Plain, Roomy, Nginx, Direct]


class Upstream:
    """The rig in Atoti's place."""

    def __init__(self, cores, delay=0, at_once=None):
        places = [] if at_once is None else [f"--at-once={at_once}"]
        self.program = Program(cores, os.environ["RIG"], "upstream", "--listen=127.0.0.1:0", f"--delay={delay}",
                               *places, stdout=subprocess.PIPE, text=True)
        self.address = self.program.process.stdout.readline().split()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.program.stop()


def call(contestant, cores, **options):
    """Has the rig call a contestant: what became of the calls."""
    command = ["taskset", "--cpu-list", cores, os.environ["RIG"], contestant.part, f"--target={contestant.address}"]
    if contestant.part == "load":
        options = {"call": contestant.call, **options}
    command += [f"--{name}={value}" for name, value in options.items()]
    command += [f"--watch={pid}" for pid in contestant.pids()]
    limit = options["seconds"] + options["warmup"] + 60
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=limit)
    contestant.between()
    return json.loads(done.stdout)
