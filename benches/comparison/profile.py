"""Where the processor time of a call goes: samples by perf, of contestants at work, added up by whose code it is."""

import re
import shutil
import subprocess
import tempfile

from comparison.contestants import Bridge, Floor, Upstream, call
from comparison.figures import cpu

# Samples a second: not in step with anything.
RATE = 4999
# Whose code a symbol is, by the first of these that it names. Generic code goes to whom it was written by.
CRATES = {
    "the bridge's own": "atoti_grpc_bridge|rig",
    "HTTP/2 (h2)": "h2",
    "hyper": "hyper_util|hyper|httparse|http_body_util|http_body",
    "headers and bytes (http, bytes)": "http|bytes",
    "tokio": "tokio_util|tokio|mio",
    "tonic and prost": "tonic_prost|tonic|prost",
    "JSON, metrics, time": "serde_json|serde_core|serde|prometheus_client|jiff|tracing|itoa|data_encoding",
}
KERNEL, MEMORY, COPIES, OTHERS = "kernel", "allocator", "copies of memory", "others"
GROUPS = [KERNEL, *CRATES, MEMORY, COPIES, OTHERS]
_CRATE = re.compile("|".join(rf"(?P<g{index}>\b(?:{names})::)" for index, names in enumerate(CRATES.values())))
_LINE = re.compile(r"\s*([\d.]+)%\s+\[(.)\]\s+(.*\S)")


def whose(kind, symbol):
    """The group of a symbol; `kind` is k in the kernel."""
    if kind == "k":
        return KERNEL
    if re.match(r"_?mi_", symbol):
        return MEMORY
    if re.match(r"_*mem(cpy|move|set|cmp)", symbol):
        return COPIES
    found = _CRATE.search(symbol)
    return list(CRATES)[int(found.lastgroup[1:])] if found else OTHERS


def shares(report):
    """What part of the samples each group has, from what perf has printed."""
    found = dict.fromkeys(GROUPS, 0.0)
    for line in report.splitlines():
        if matched := _LINE.match(line):
            percent, kind, symbol = matched.groups()
            found[whose(kind, symbol)] += float(percent) / 100
    return found


def profiles(settings, cores):
    """Microseconds per call by group, of the floor and the bridge; None where there is no perf."""
    if not shutil.which("perf"):
        return None
    figures = {}
    for kind in [Floor, Bridge]:
        with (Upstream(cores.upstream) as upstream, kind(upstream.address, cores.contestant) as contestant,
              tempfile.NamedTemporaryFile() as samples):
            record = subprocess.Popen(
                ["perf", "record", "--quiet", f"--freq={RATE}", "--output", samples.name, "--pid",
                 ",".join(map(str, contestant.pids())), "--", "sleep", str(settings.warmup + settings.seconds)],
                stderr=subprocess.DEVNULL)
            done = call(contestant, cores.callers, streams=64, seconds=settings.seconds, warmup=settings.warmup)
            if record.wait(60):
                return None
            report = subprocess.run(
                ["perf", "report", "--input", samples.name, "--no-children", "--sort=symbol", "--stdio"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, timeout=120).stdout
        found = shares(report)
        if not found[KERNEL]:
            # It was not let in there, and the shares are those of something else.
            return None
        figures[kind.name] = {group: share * cpu(done) for group, share in found.items()}
    return figures
