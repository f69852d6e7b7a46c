"""Counts what the bridge takes for a call, and holds it against benches/budget.toml; see benches/budget.

A run with few calls and one with many, under callgrind: the difference is the calls, without beginning and end. One
thread and a fixed number of calls, so that two runs of one program come to nearly the same, whatever else the machine
does.
"""

import argparse
import os
import pathlib
import re
import signal
import sys
import tomllib

from comparison.callgrind import Profile
from comparison.contestants import Bridge, Upstream, call
from comparison.counted import Counted

BUDGET = pathlib.Path("benches/budget.toml")
FEW, MANY = 1_000, 4_000
# How many answers go into one write depends on when they come: with several connections more of that differs.
CONNECTIONS, STREAMS = 1, 16
# Functions that are told of when there is more than there should be.
SHOWN = 15
# The load ends with its calls; this is for a bridge that answers none.
PATIENCE = 120
ANYWHERE = ",".join(map(str, sorted(os.sched_getaffinity(0))))


class CountedBridge(Counted, Bridge):
    """As it is by default, under callgrind."""


class Cost:
    """What a call takes: the difference between many calls and few."""

    def __init__(self, few, many):
        calls = MANY - FEW
        self.instructions = round((many.instructions - few.instructions) / calls)
        self.allocations = round((many.allocations - few.allocations) / calls, 1)
        own = many.own.copy()
        own.subtract(few.own)
        self.functions = [(name, count / calls) for name, count in own.most_common(SHOWN)]


def counted(calls):
    with Upstream(ANYWHERE) as upstream, CountedBridge(upstream.address, ANYWHERE) as bridge:
        done = call(bridge, ANYWHERE, calls=calls, connections=CONNECTIONS, streams=STREAMS, warmup=0,
                    seconds=PATIENCE)
        if done["good"] != calls:
            sys.exit(f"error: {done['good']} of {calls} calls were OK; the others: {done['by_code']}")
        return Profile(bridge.written())


def judged(name, value, budget, tolerance):
    """Whether it is within the budget; tells of it."""
    told = f"{value:,} {name} per call, and the budget is {budget:,}"
    if value > budget + tolerance:
        print(f"error: {told}: {value - budget:,.6g} more, and {tolerance:.6g} more would still be taken for the same")
        return False
    clearly_less = value < budget - tolerance
    print(f"{told}{': less. Write the new figure: benches/budget --write' if clearly_less else ''}")
    return True


def write(cost):
    """Puts the figures into the file; the rest of it stays."""
    text = BUDGET.read_text(encoding="utf-8")
    for key, value in [("instructions_per_call", cost.instructions), ("allocations_per_call", cost.allocations)]:
        text, found = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.M)
        if found != 1:
            sys.exit(f"error: {BUDGET} has {found} lines for {key}, not one")
    BUDGET.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(
        prog="benches/budget",
        description=f"Counts the instructions and the allocations of a call, and fails when they are more than {BUDGET} "
                    "allows. Takes some seconds, but for what has to be built.")
    parser.add_argument("--write", action="store_true", help=f"write what was counted to {BUDGET} instead")
    asked = parser.parse_args()
    # What has been started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        cost = Cost(counted(FEW), counted(MANY))
    except ValueError as why:
        sys.exit(f"error: {why}")
    if asked.write:
        write(cost)
        print(f"{cost.instructions:,} instructions and {cost.allocations} allocations per call: written to {BUDGET}")
        return
    budget = tomllib.loads(BUDGET.read_text(encoding="utf-8"))
    instructions, tolerance = budget["instructions_per_call"], budget["tolerance"]
    within = [judged("instructions", cost.instructions, instructions,
                     instructions * tolerance["instructions_percent"] / 100),
              judged("allocations", cost.allocations, budget["allocations_per_call"], tolerance["allocations"])]
    if not all(within):
        print("Most instructions of their own, per call:")
        for name, count in cost.functions:
            print(f"{count:8,.0f} {name[:140]}")
        print("If it is worth it: benches/budget --write")
        sys.exit(1)


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
