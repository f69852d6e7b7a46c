"""Reads what callgrind has written: instructions, where they went, and how often something was allocated.

The format is that of valgrind's manual, "Callgrind Format Specification". A name is told once, with a number that
stands for it afterwards. The line behind `calls=` is what the called function took, and belongs to that one.
"""

import collections
import re

# What the program's allocator has the crate mimalloc call.
ALLOCATORS = {"mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned"}
_INSIDE = re.compile(r"_*mi_")
_FUNCTION = re.compile(r"(c?fn)=\((\d+)\)(?: (.*))?")
_CALLS = re.compile(r"calls=(\d+)")
# A line of code, perhaps relative to the one before, and the instructions of its own.
_COST = re.compile(r"(?:[+-]?\d+|\*) (\d+)")
_SUM = re.compile(r"(?:summary|totals): (\d+)")
# An instruction by its address, a line of its source, and how often it was executed.
_INSTRUCTION = re.compile(r"0x([0-9a-f]+) (?:[+-]?\d+|\*) (\d+)$")


class Profile:
    """One run of a program."""

    def __init__(self, lines):
        self.instructions = 0
        # Of each function's own, without what it calls.
        self.own = collections.Counter()
        self.allocations = 0
        names, caller, called = {}, None, None
        lines = iter(lines)
        for line in lines:
            if found := _FUNCTION.match(line):
                kind, number, name = found.groups()
                name = names.setdefault(number, name)
                if kind == "fn":
                    caller = name
                else:
                    called = name
            elif found := _CALLS.match(line):
                # What mimalloc does for itself is not asked for by anybody.
                if called in ALLOCATORS and not _INSIDE.match(caller):
                    self.allocations += int(found[1])
                next(lines)
            elif found := _COST.match(line):
                self.own[caller] += int(found[1])
            elif found := _SUM.match(line):
                self.instructions = int(found[1])
        if not self.instructions:
            raise ValueError("no instructions were counted: callgrind has not come to its end")
        # An allocator by another name would otherwise be one that costs nothing.
        if not self.allocations:
            raise ValueError(f"no call of {', '.join(sorted(ALLOCATORS))}: has the program another allocator?")


def executed(lines):
    """How often each address was, by what callgrind has written with --dump-instr=yes and --compress-pos=no."""
    counts = collections.Counter()
    lines = iter(lines)
    for line in lines:
        if _CALLS.match(line):
            next(lines)
        elif found := _INSTRUCTION.match(line):
            counts[int(found[1], 16)] += int(found[2])
    return counts
