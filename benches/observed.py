"""Measures what the bridge does per call, see benches/observed.

By default its processor time: ratios of medians over interleaved rounds, as machines are noisy, and get faster and
slower by the minute. Or the instructions that it executes, which are nearly the same on every run, whatever else the
machine does; what the kernel does for it is not among them.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent import futures

import grpc

BRIDGE = os.environ["BRIDGE"]
CALLS = 40_000
# Under callgrind.
FEW, MANY = 1_000, 4_000
CONNECTIONS, STREAMS = 4, 16
TICK = os.sysconf("SC_CLK_TCK")
METHOD = "/atoti.queryhistory.v1.QueryHistoryService/CancelQuery"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

QUIET = ["--access-log-ratio=0", "--audit-log=/dev/null"]
CONTESTANTS = {
    "everything off": (QUIET, {}),
    "a line for each call": (["--audit-log=/dev/null"], {}),
    "the audit trail": (["--access-log-ratio=0", "--audit-log={folder}/audit.log"], {}),
    "traces, all sampled": (QUIET, {"OTEL_TRACES_SAMPLER": "always_on"}),
    "traces, one in a hundred": (QUIET, {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}),
    "everything on": (["--audit-log={folder}/audit.log"], {"OTEL_TRACES_SAMPLER": "always_on"}),
}

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 1000000000;
  server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} }}
}}
"""


class Collector:
    """Takes spans and counts nothing: what it costs is not the bridge's."""

    def __init__(self):
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(EXPORT.split("/")[1],
                                                                                   {"Export": handler}),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()


class Bridge:
    def __init__(self, flags, environment, upstream, collector, folder, prefix=()):
        environment = {**os.environ, **environment}
        if "OTEL_TRACES_SAMPLER" in environment:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.port}"
            # As many as there is room for: what is thrown away costs nothing.
            environment["OTEL_BSP_MAX_QUEUE_SIZE"] = "65536"
        command = [*prefix, BRIDGE, "serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--drain-delay=0s",
                   "--log-format=json", f"--upstream-url=http://127.0.0.1:{upstream}"]
        command += [flag.format(folder=folder) for flag in flags]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for line in self.process.stderr:
            event = json.loads(line)
            if event["message"] == "listening":
                self.grpc, self.admin = event["grpc.address"], event["admin.address"]
                break
        # Lines are read, and thrown away.
        self.reader = threading.Thread(target=self.drain, daemon=True)
        self.reader.start()

    def drain(self):
        while os.read(self.process.stderr.fileno(), 1 << 20):
            pass

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def metric(self, pattern):
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10) as response:
            found = re.search(rf"^{pattern} (\S+)$", response.read().decode(), re.M)
        return float(found.group(1)) if found else 0.0

    def succeeded(self):
        return self.metric(r'rpc_server_call_duration_seconds_count\{[^}]*CancelQuery"[^}]*"OK"\}')

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def load(bridge, message, calls):
    command = ["h2load", f"-n{calls}", f"-c{CONNECTIONS}", f"-m{STREAMS}", "-t1", f"-d{message}",
               "-Hcontent-type: application/grpc", "-Hte: trailers", f"http://{bridge.grpc}{METHOD}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)


def measure(name, upstream, collector, folder, message):
    """Microseconds of processor time per call."""
    flags, environment = CONTESTANTS[name]
    bridge = Bridge(flags, environment, upstream, collector, folder)
    try:
        load(bridge, message, CALLS // 10)
        before, cpu = bridge.succeeded(), bridge.cpu()
        load(bridge, message, CALLS)
        # What goes on in the background belongs to it.
        time.sleep(1)
        cpu = bridge.cpu() - cpu
        done = bridge.succeeded() - before
        if done != CALLS:
            sys.exit(f"{name}: {CALLS - done:.0f} of {CALLS} calls were not OK")
        for lost in ["spans_lost", "log_lines_dropped", "audit_records_lost"]:
            count = bridge.metric(f"atoti_bridge_{lost}_total")
            if count > 0:
                print(f"  {name}: {lost} {count:.0f}", file=sys.stderr)
        return cpu / CALLS * 1e6
    finally:
        bridge.stop()
        (folder / "audit.log").unlink(missing_ok=True)


def instructions(name, upstream, collector, folder, message):
    """Instructions per call: the difference between many calls and few, by callgrind."""
    flags, environment = CONTESTANTS[name]
    counts = []
    for calls in FEW, MANY:
        counted = folder / "callgrind.out"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counted}", f"--log-file={folder}/valgrind"]
        bridge = Bridge(flags, environment, upstream, collector, folder, valgrind)
        try:
            load(bridge, message, calls)
            if bridge.succeeded() != calls:
                sys.exit(f"{name}: not all calls were OK")
        finally:
            bridge.stop()
            (folder / "audit.log").unlink(missing_ok=True)
        counts.append(int(re.search(r"^(?:summary|totals): (\d+)", counted.read_text(), re.M).group(1)))
    print(f"  {name}", file=sys.stderr)
    return (counts[1] - counts[0]) / (MANY - FEW) / 1000


def main():
    parser = argparse.ArgumentParser(description="Processor time per call, with all that is told of it on and off.")
    parser.add_argument("--rounds", type=int, default=5, help="each measures every contestant once (default 5)")
    parser.add_argument("--instructions", action="store_true", help="count instructions with callgrind, once")
    arguments = parser.parse_args()
    rounds = 1 if arguments.instructions else arguments.rounds
    measured, unit = (instructions, "k instr") if arguments.instructions else (measure, "us/call")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        message = folder / "request.bin"
        body = b"\x0a" + bytes([19]) + b"5016726393312340713"
        message.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
        collector, upstream = Collector(), 18099
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=upstream))
        nginx = subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-p", folder])
        try:
            time.sleep(0.5)
            taken = {name: [] for name in CONTESTANTS}
            for number in range(rounds):
                for name in CONTESTANTS:
                    taken[name].append(measured(name, upstream, collector, folder, message))
                print(f"round {number + 1} of {rounds}", file=sys.stderr)
        finally:
            nginx.terminate()
            nginx.wait(10)
    off = taken["everything off"]
    print(f"{'':26} {unit:>8} {'x off':>7}  spread of the ratio, round by round")
    for name, times in taken.items():
        ratios = [time / base for time, base in zip(times, off)]
        print(f"{name:26} {statistics.median(times):8.1f} {statistics.median(ratios):7.2f}"
              f"  {min(ratios):.2f} .. {max(ratios):.2f}")


main()
