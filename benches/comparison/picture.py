"""The picture of the latency distributions, with percentiles spread as HdrHistogram's are: each nine as wide."""

import matplotlib

matplotlib.use("svg")
# The same file from the same figures.
matplotlib.rcParams.update({"svg.hashsalt": "latency", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot  # noqa: E402

RATE = "5000"
NINES = [0, 90, 99, 99.9, 99.99]


def draw(raw, path):
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name in raw["rounds"][0]["paced"][RATE]:
        run = _typical([one["paced"][RATE][name] for one in raw["rounds"]])
        steps = [(1 / (1 - percentile / 100), latency / 1000) for percentile, latency in run["distribution"]
                 if percentile <= NINES[-1]]
        axes.step(*zip(*steps), where="post", label=name, linewidth=2 if name == "bridge" else 1)
    axes.set(xscale="log", yscale="log", xlabel="percentile of the calls", ylabel="latency, ms",
             title=f"Latency at {int(RATE):,} calls a second, one core")
    axes.set_xticks([1 / (1 - nine / 100) for nine in NINES], [f"{nine:g} %" for nine in NINES])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def _typical(runs):
    """The round in the middle."""
    return sorted(runs, key=lambda run: run["latency"]["99"])[len(runs) // 2]
