"""Processes: started on a core, watched in /proc, and ended by their ids, whatever happens."""

import os
import pathlib
import random
import socket
import subprocess
import time

PATIENCE = 30.0


class Cores:
    """Who runs where. With two cores, the callers share one with the upstream, as both are the load."""

    def __init__(self):
        mine = sorted(os.sched_getaffinity(0))
        if len(mine) < 2:
            raise SystemExit("error: a core for the contestant and another one for its load are needed")
        self.contestant, self.upstream, self.callers = str(mine[0]), str(mine[1]), str(mine[min(2, len(mine) - 1)])
        # For contestants with two cores: those of the load are others, where there are others.
        self.pair = f"{mine[0]},{mine[1]}"
        self.pair_is_shared = len(mine) < 4
        self.beside_pair = self.pair if self.pair_is_shared else f"{mine[2]},{mine[3]}"


class Program:
    """A program on its cores."""

    def __init__(self, cores, *command, **arguments):
        command = ["taskset", "--cpu-list", cores, *map(str, command)]
        self.process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, **arguments)

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def environment():
    """Nothing of it configures a contestant."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith("ATOTI_BRIDGE_") and name != "RUST_LOG"}


def free_port():
    """A port below those that the kernel gives to outgoing connections: it is still free a moment later."""
    for port in random.sample(range(20000, 30000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no port is free")


def await_listener(port, program):
    """Waits until a program accepts connections."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and program.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            # Short: a start is measured by it.
            time.sleep(0.0002)
    raise AssertionError(f"{program.process.args} does not listen")


def tree(pid):
    """A process and its descendants."""
    found = [pid]
    for process in found:
        for task in pathlib.Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _kib(pids, line):
    total = 0
    for pid in pids:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        total += next(int(each.split()[1]) for each in status.splitlines() if each.startswith(line))
    return total


def resident(pid):
    """What a process and its descendants hold of memory, in KiB. Shared pages count for each."""
    return _kib(tree(pid), "VmRSS:")


def most_resident(pid):
    """The most that they ever held."""
    return _kib(tree(pid), "VmHWM:")
