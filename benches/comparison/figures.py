"""From raw figures to those that are told: medians over the rounds. Ratios are taken within a round, and then their
median, as machines get faster and slower by the minute."""

import statistics
from dataclasses import dataclass

# Microseconds. A tenth of what the callers' patience is when there is too much.
LATE = 100_000


@dataclass(frozen=True)
class Figure:
    """A median, and how far the rounds are apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values):
        """None when a round lacks it."""
        values = list(values)
        if not values or None in values:
            return None
        return cls(statistics.median(values), min(values), max(values))

    def scaled(self, by):
        return Figure(self.median * by, self.least * by, self.most * by)

    def told(self, digits=2, unit=""):
        spread = f" ({self.least:.{digits}f} .. {self.most:.{digits}f})" if self.least != self.most else ""
        return f"{self.median:.{digits}f}{unit}{spread}"


class Figures:
    """The figures of a run."""

    def __init__(self, raw):
        self.raw, self.rounds = raw, raw["rounds"]

    def over(self, value):
        """A figure of each round."""
        return Figure.of(map(value, self.rounds))

    def closed(self, kind, shape, name, value):
        return self.over(lambda one: value(one[kind][shape][name]))

    def ratio(self, kind, shape, name, to, value):
        return self.over(lambda one: divided(value(one[kind][shape][name]), value(one[kind][shape][to])))

    def added(self, rate, name, percentile):
        """Microseconds more than without anybody between."""
        return self.over(lambda one: _added(one, rate, name, percentile))

    def added_ratio(self, rate, name, to, percentile):
        """Of the rounds in which both added something: less than nothing is the machine's noise. None unless those are
        most rounds."""
        pairs = [(_added(one, rate, name, percentile), _added(one, rate, to, percentile)) for one in self.rounds]
        ratios = [value / by for value, by in pairs if value > 0 and by > 0]
        return Figure.of(ratios) if 2 * len(ratios) > len(pairs) else None

    def goodput(self, what, name):
        """The share of what it can that is still well answered when it is asked for twice as much. None where the
        callers could not ask for so much: what they began too late says nothing about whom they asked."""
        def of(one):
            run = one["overload"][what][name]
            return divided(run["rate"], run["capacity"]) if run["late"]["99"] < LATE else None
        return self.over(of)

    def refusal(self, name):
        """What it takes to refuse a call, x what a call takes the bridge."""
        return self.over(lambda one: divided(cpu(one["refusing"][name]), cpu(one["closed"]["1 x 64"]["bridge"])))

    def scaling(self, name):
        """From one core to two. Where the load has cores of its own it is what was seen. Else it is what the processor
        time says: as many calls as two cores have time for, by as many as one has."""
        def of(one):
            single, double = one["closed"]["8 x 8"][name], one["pair"][name]
            if not self.raw["pair_is_shared"]:
                return divided(rate(double), rate(single))
            # More than two would be the load's doing: together on the cores, more is done at each wake-up.
            return min(2.0, divided(2 * cpu(single), cpu(double)))
        return self.over(of)

    def page_cost(self):
        """A page of a list, by what it costs to parse it."""
        return self.over(lambda one: divided(cpu(one["list"]["listed"]), one["list"]["parsed"]["microseconds"]))

    def growth(self):
        """How much more memory is held after a load than after its first tenth."""
        held = self.raw["load"]
        return divided(held[-1], held[0])


def _added(one, rate, name, percentile):
    figures = one["paced"][str(rate)]
    return figures[name]["latency"][percentile] - figures["direct"]["latency"][percentile]


def divided(value, by):
    """None where that is no number, or no sense."""
    if value is None or by is None or by <= 0:
        return None
    return value / by


def rate(run):
    return run["rate"]


def cpu(run):
    """Microseconds of processor time per call."""
    return divided(run["cpu_seconds"] * 1e6, run["calls"])


def busy(run):
    """The share of the time that one core was busy for."""
    return divided(run["cpu_seconds"], run["seconds"])


def good(run):
    return divided(run["good"], run["calls"])
