"""What the project wants to reach, and whether it does."""

import pathlib
import tomllib
from dataclasses import dataclass

from comparison.figures import Figure, cpu, rate

# What the gate compares instructions and allocations with.
BUDGET = pathlib.Path("benches/budget.toml")
MIB = 1024
ENVOY, VANGUARD = "Envoy, transcoder alone", "vanguard-go"


@dataclass(frozen=True)
class Target:
    """A measure with what it must and what it should be. `measured` is a Figure, a number, or None."""

    name: str
    measured: object
    must: float
    aim: float
    unit: str = ""
    digits: int = 2
    at_least: bool = False

    @property
    def value(self):
        return self.measured.median if isinstance(self.measured, Figure) else self.measured

    def told(self):
        if self.measured is None:
            return "not measured"
        if isinstance(self.measured, Figure):
            return self.measured.told(self.digits, self.unit)
        return f"{self.measured:.{self.digits}f}{self.unit}"

    def limit(self, value):
        return f"{'≥' if self.at_least else '≤'} {value:g}{self.unit}"

    def verdict(self):
        if self.value is None:
            return ""
        for wanted, word in [(self.aim, "aim"), (self.must, "must")]:
            if self.value >= wanted if self.at_least else self.value <= wanted:
                return word
        return "**missed**"


def targets(figures):
    """All of them."""
    raw = figures.raw
    memory = lambda value: figures.over(lambda one: value(one["memory"]["bridge"]))  # noqa: E731
    return [
        Target("processor time per call, x the floor's", figures.ratio("closed", "1 x 64", "bridge", "floor", cpu),
               1.5, 1.2),
        Target("throughput on one core, x Envoy's transcoder",
               figures.ratio("closed", "1 x 64", "bridge", ENVOY, rate), 2.5, 4, at_least=True),
        Target("throughput on one core, x vanguard-go's",
               figures.ratio("closed", "1 x 64", "bridge", VANGUARD, rate), 5, 8, at_least=True),
        Target("added latency at 5,000 calls/s, median, x nginx's", figures.added_ratio(5000, "bridge", "nginx", "50"),
               1.2, 1.0),
        Target("added latency at 5,000 calls/s, p99, x nginx's", figures.added_ratio(5000, "bridge", "nginx", "99"),
               1.2, 1.0),
        Target("allocations per call", budget().get("allocations_per_call"), 40, 20, digits=0),
        Target("memory at rest", memory(lambda held: held["idle_kib"] / MIB), 16, 10, " MiB", 1),
        Target("memory per idle connection", memory(lambda held: held["connection_kib"]), 24, 15, " KiB", 1),
        Target("memory after a load, x that after its first tenth", figures.growth(), 1.1, 1.02),
        Target("process created to listening", Figure.of(start["listening_ms"] for start in raw["starts"]),
               20, 8, " ms", 1),
        Target("the program, stripped", raw["binary"]["stripped_bytes"] / MIB / 1024, 12, 8, " MiB", 1),
        *_overload(figures, "upstream", "twice too much for the upstream"),
        *_overload(figures, "cancels", "twice too many cancels for the core"),
        *_overload(figures, "core", "twice too many pages for the core"),
        Target("from one core to two", figures.scaling("bridge"), 1.7, 1.9, "x", at_least=True),
    ]


def _overload(figures, what, told):
    """What is asked of a bridge, when it, or what is behind it, is asked for twice as much as it can."""
    def of(value):
        return figures.over(lambda one: value(one["overload"][what]["bridge"]))

    goodput, peak = figures.goodput(what, "bridge"), of(lambda run: run["peak_kib"] / MIB)
    p99 = of(lambda run: run["latency"]["99"] / 1000) if goodput else None
    return [
        Target(f"{told}: p99 of what is well answered", p99, 25, 5, " ms", 1),
        Target(f"{told}: well answered, of the capacity", goodput, 0.7, 0.9, at_least=True),
        Target(f"{told}: memory", peak, 64, 48, " MiB", 1),
    ]


def budget():
    """What one call takes by count, as it is committed; empty where nothing is."""
    return tomllib.loads(BUDGET.read_text(encoding="utf-8")) if BUDGET.exists() else {}
