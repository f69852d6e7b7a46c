"""How much code a call runs through: the machine code that runs for at least every second call, counted by callgrind.

At a steady pace a core rests between two calls, or others have it, and the next call may find little of that code in
the nearest caches. Unlike the time that takes, the code is the same on every run. The kernel's is not in it.
"""

from comparison.callgrind import executed
from comparison.contestants import Bridge, Floor, Nginx, Plain, Upstream, call
from comparison.counted import Counted


class SingleNginx(Nginx):
    """Its workers are another user, who may not write what was counted."""

    mode = "master_process off;"


# Contestants whose code is compiled before it runs.
KINDS = [Floor, Bridge, Plain, SingleNginx]
# What many calls have executed more than few is the calls, without beginning and end.
FEW, MANY = 200, 600
# Bytes.
LINE, PAGE = 64, 4096


def size(few, many, calls):
    """The size of what was executed for at least every second of the calls that were more."""
    usual = [address for address, count in many.items() if 2 * (count - few[address]) >= calls]
    return {"instructions": len(usual), "lines": len({address // LINE for address in usual}),
            "pages": len({address // PAGE for address in usual})}


def _counted(kind, calls, cores):
    under_callgrind = type(kind.__name__, (Counted, kind), {"options": ["--dump-instr=yes", "--compress-pos=no"]})
    with Upstream(cores.upstream) as upstream, under_callgrind(upstream.address, cores.contestant) as contestant:
        done = call(contestant, cores.callers, calls=calls, warmup=0, seconds=60)
        if done["good"] != calls:
            raise SystemExit(f"error: {done['good']} of {calls} calls of {kind.name} were good")
        return executed(contestant.written())


def of_calls(cores):
    """Of each contestant, by its name."""
    return {kind.name: size(_counted(kind, FEW, cores), _counted(kind, MANY, cores), MANY - FEW) for kind in KINDS}
