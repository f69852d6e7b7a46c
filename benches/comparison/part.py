"""A part of a core, as a container with a limit has it."""

import contextlib
import os
import pathlib

GROUPS = pathlib.Path("/sys/fs/cgroup")
# Microseconds after which those who have had their part get the next one. Short: they stand still until then.
PERIOD = 4_000


@contextlib.contextmanager
def of_a_core(share, pids):
    """Holds processes to that share of a core. Yields what they have: all of it, where that is not ours to say."""
    try:
        group = _group(share, pids)
    except OSError:
        yield 1
        return
    try:
        yield share
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()


def _group(share, pids):
    """Puts processes into a group of their own, within the one we are in, of either version of control groups."""
    ours = [line.split(":", 2) for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()]
    first = next((path for _, controllers, path in ours if "cpu" in controllers.split(",")), None)
    within = GROUPS / "cpu" / first.strip("/") if first else GROUPS / ours[-1][2].strip("/")
    limits = ({"cpu.cfs_period_us": PERIOD, "cpu.cfs_quota_us": round(share * PERIOD)} if first else
              {"cpu.max": f"{round(share * PERIOD)} {PERIOD}"})
    group = within / f"part-{os.getpid()}"
    group.mkdir()
    try:
        for name, limit in limits.items():
            (group / name).write_text(str(limit))
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        group.rmdir()
        raise
    return group
