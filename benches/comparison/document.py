"""The page about performance: tables between the words of benches/PERFORMANCE.md.in."""

import pathlib
import string

from comparison.figures import Figures, busy, cpu, divided, good, rate
from comparison.targets import BUDGET, MIB, budget, targets

# How many queries of a bulk cancel the bridge stops at once, as docs/OPERATIONS.md has it.
BULK_AT_ONCE = 16
TEMPLATE = pathlib.Path("benches/PERFORMANCE.md.in")


def page(raw):
    figures = Figures(raw)
    parts = {
        "machine": _machine(raw), "rounds": _rounds(raw), "targets": _targets(figures),
        "closed": _shapes(figures, "closed"), "wide": _shapes(figures, "wide"), "paced": _paced(figures),
        "memory": _memory(figures), "load": _load(raw), "start": _start(figures),
        **{f"overload_{what}": _overload(figures, what) for what in ["upstream", "core", "cancels"]},
        "beside": _beside(figures), "share": _share(figures), "refusing": _refusing(figures),
        "floor_added": _told(figures.added_ratio(5000, "floor", "nginx", "50")),
        "slow": _slow(figures), "pair": _pair(figures), "page": _listing(figures),
        "bulk": _bulk(figures), "budget": _budget(), "profiles": _profiles(raw),
        "code": _code(figures),
    }
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(parts)


def _table(head, rows):
    """Names to the left, figures to the right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def _told(figure, digits=2, unit=""):
    return "" if figure is None else figure.told(digits, unit)


def _plain(figure, digits=0, scale=1.0):
    """The median alone."""
    return "" if figure is None else f"{figure.median * scale:,.{digits}f}"


def _rounds(raw):
    count = len(raw["rounds"])
    return "one round" if count == 1 else f"{count} rounds"


def _machine(raw):
    at = raw["machine"]
    return (f"{at['processor']}, {at['cores']} cores, {at['memory_gib']} GiB, Linux {at['kernel']}; {at['bridge']}, "
            f"Envoy {at['Envoy']}, vanguard-go {at['vanguard-go']}, nginx {at['nginx']}")


def _targets(figures):
    rows = [[each.name, each.limit(each.must), each.limit(each.aim), each.told(), each.verdict()]
            for each in targets(figures)]
    return _table(["Measure", "Must", "Aim", "Measured", "Reached"], rows)


def _shapes(figures, kind):
    tables = []
    for shape in figures.rounds[0][kind]:
        connections, streams = shape.split(" x ")
        rows = []
        for name in figures.rounds[0][kind][shape]:
            def of(value, name=name):
                return figures.closed(kind, shape, name, value)

            rows.append([
                name, _plain(of(rate)), _told(figures.ratio(kind, shape, name, "floor", rate)),
                "" if name == "direct" else _plain(of(cpu), 1),
                "" if name == "direct" else _told(figures.ratio(kind, shape, name, "floor", cpu)),
                "" if name == "direct" else _plain(of(busy), 0, 100), _plain(of(good), 1, 100),
                _plain(of(lambda run: run["latency"]["50"]), 2, 0.001),
                _plain(of(lambda run: run["latency"]["99"]), 2, 0.001),
            ])
        head = ["", "good calls/s", "x floor", "CPU µs/call", "x floor", "core busy, %", "good, %", "p50, ms",
                "p99, ms"]
        title = f"**{int(connections):,} connection{'s' * (connections != '1')}, {int(streams):,} at once on each**"
        tables.append(f"{title}\n\n{_table(head, rows)}")
    return "\n\n".join(tables)


def _paced(figures):
    tables = []
    for pace, by_name in figures.rounds[0]["paced"].items():
        rows = []
        for name in by_name:
            def of(value, name=name):
                return figures.closed("paced", pace, name, value)

            latencies = [_plain(of(lambda run, p=p: run["latency"][p])) for p in ["50", "99", "99.9"]]
            direct = name == "direct"
            added = [_plain(figures.added(pace, name, p)) for p in ["50", "99"]]
            ratios = [_told(figures.added_ratio(pace, name, "nginx", p)) for p in ["50", "99"]]
            rows.append([name, *latencies, *(["", ""] if direct else added), *(["", ""] if direct else ratios),
                         "" if direct else _plain(of(cpu), 1), _plain(of(lambda run: run["late"]["99"]))])
        head = ["", "p50, µs", "p99", "p99.9", "added p50", "added p99", "x nginx's p50", "x nginx's p99",
                "CPU µs/call", "late p99"]
        tables.append(f"**{int(pace):,} calls a second**\n\n{_table(head, rows)}")
    return "\n\n".join(tables)


def _memory(figures):
    rows = []
    for name in figures.rounds[0]["memory"]:
        def of(value, name=name):
            return figures.over(lambda one: one["memory"][name][value])

        rows.append([name, _plain(of("idle_kib"), 1, 1 / MIB), _plain(of("connection_kib"), 1)])
    return _table(["", "at rest, MiB", "per idle connection, KiB"], rows)


def _load(raw):
    held = ", ".join(f"{kib / MIB:.1f}" for kib in raw["load"])
    return f"after each tenth of {raw['load_seconds']:g} seconds of calls as fast as possible, 8 x 8, in MiB: {held}"


def _start(figures):
    starts, program = figures.raw["starts"], figures.raw["binary"]
    listening, answered = (sorted(start[key] for start in starts)[len(starts) // 2]
                           for key in ["listening_ms", "answered_ms"])
    return (f"{listening:.1f} ms to the first connection, {answered:.1f} ms to the answer to a health check; "
            f"{program['bytes'] / MIB / 1024:.1f} MiB as it is released, with its symbols, "
            f"{program['stripped_bytes'] / MIB / 1024:.1f} MiB without them")


def _overload(figures, what):
    rows = []
    for name in figures.rounds[0]["overload"][what]:
        def of(value, name=name):
            return figures.over(lambda one: value(one["overload"][what][name]))

        offered = of(lambda run: run["calls"] / run["seconds"] / run["capacity"])
        rows.append([
            name, _plain(of(lambda run: run["capacity"])), _told(offered), _told(figures.goodput(what, name)),
            *(_plain(of(p99), 1, 0.001) for p99 in [
                lambda run: run["half"]["latency"]["99"], lambda run: run["latency"]["99"],
                lambda run: run["latency_of_others"]["99"]]),
            _codes(figures, what, name),
            _plain(of(lambda run: run["late"]["99"]), 1, 0.001), _plain(of(lambda run: run["peak_kib"]), 0, 1 / MIB),
        ])
    head = ["", "capacity, calls/s", "asked, x capacity", "good, x capacity", "p99 at half, ms", "p99 of good, ms",
            "p99 of refused, ms", "what the others got", "late p99, ms", "memory, MiB"]
    return _table(head, rows)


def _beside(figures):
    """What became of cancels in the midst of too many pages."""
    def of(value):
        return figures.over(lambda one: value(one["overload"]["core"]["bridge"]["beside"]))

    asked = of(lambda run: run["calls"] / run["seconds"])
    half, most = (_plain(of(lambda run, p=p: run["latency"][p]), 1, 0.001) for p in ["50", "99"])
    done = _told(of(lambda run: 100 * good(run)), 1, " %")
    return (f"{done} of {_plain(asked)} a second were carried out, half of them within {half} ms, 99 of 100 within "
            f"{most} ms")


def _share(figures):
    shares = {run["share"] for one in figures.rounds for run in one["overload"]["cancels"].values()}
    return " or ".join(f"{share:.0%}" for share in sorted(shares))


def _refusing(figures):
    return (f"To refuse one takes {_told(figures.refusal('bridge'))} of that. The floor, which then reads nothing of "
            f"the request and tells nothing but a code, needs {_told(figures.refusal('floor'))} for it.")


def _codes(figures, what, name):
    """What became of those that were not well answered, in the last round."""
    run = figures.rounds[-1]["overload"][what][name]
    shares = {code: count / run["calls"] for code, count in run["by_code"].items() if code != "0"}
    return ", ".join(f"{code} {share:.0%}" for code, share in sorted(shares.items(), key=lambda each: -each[1]))


def _slow(figures):
    def of(value):
        return figures.over(lambda one: value(one["slow"]))

    refused = of(lambda run: run["latency_of_others"]["99"])
    asked = of(lambda run: run["calls"] / run["seconds"])
    return (f"{_plain(of(rate))} well answered a second of {_plain(asked)}; 99 of 100 others were told so within "
            f"{_plain(refused, 1, 0.001)} ms")


def _pair(figures):
    rows = []
    for name in figures.rounds[0]["pair"]:
        def of(value, name=name):
            return figures.over(lambda one: value(one["pair"][name]))

        rows.append([name, _plain(figures.closed("closed", "8 x 8", name, rate)), _plain(of(rate)),
                     _plain(figures.closed("closed", "8 x 8", name, cpu), 1), _plain(of(cpu), 1),
                     _told(figures.scaling(name))])
    head = ["", "calls/s on one", "calls/s on two", "CPU µs/call on one", "on two", "scaling"]
    said = ("The contestant shares the two cores with its load: calls per second say little, and the scaling is what "
            "the processor time leaves room for, two at most." if figures.raw["pair_is_shared"] else
            "The load has two cores of its own.")
    return f"{said}\n\n{_table(head, rows)}"


def _listing(figures):
    first = figures.rounds[0]["list"]["parsed"]
    listed = figures.over(lambda one: cpu(one["list"]["listed"]))
    parsed = figures.over(lambda one: one["list"]["parsed"]["microseconds"])
    return (f"{first['queries']} queries in {first['bytes'] / 1000:.0f} KB of JSON: {_plain(listed)} µs of processor "
            f"time, {_told(figures.page_cost())} x the {_plain(parsed)} µs that parsing takes")


def _bulk(figures):
    queries = figures.rounds[0]["list"]["parsed"]["queries"]
    turns = -(-queries // BULK_AT_ONCE)

    def of(value):
        return figures.over(lambda one: value(one["bulk"]))

    cost = of(lambda bulk: divided(cpu(bulk["cost"]), queries))
    single = figures.closed("closed", "1 x 64", "bridge", cpu)
    alone, took = (of(lambda bulk, which=which: bulk[which]["latency"]["50"]) for which in ["one", "many"])
    # One turn more, for the list.
    least = of(lambda bulk: (turns + 1) * bulk["one"]["latency"]["50"])
    well = of(lambda bulk: min(map(good, bulk.values())))
    return (f"{queries} queries, {_plain(well, 0, 100)} % of the calls good: {_plain(cost, 1)} µs of processor time for "
            f"each query, its part of the list among them, where a `CancelQuery` takes {_plain(single, 1)}. With "
            f"an upstream on which one cancel takes {_plain(alone, 1, 0.001)} ms from end to end, all of them took "
            f"{_plain(took, 1, 0.001)} ms; a list and {turns} turns of {BULK_AT_ONCE}, as many as the bridge stops at "
            f"once, are {_plain(least, 1, 0.001)}")


def _profiles(raw):
    if not raw["profiles"]:
        return "Not measured: perf may not count here."
    floor, bridge = raw["profiles"]["floor"], raw["profiles"]["bridge"]
    rows = [[group, f"{floor[group]:.1f}", f"{bridge[group]:.1f}", f"{bridge[group] - floor[group]:+.1f}"]
            for group in floor]
    total = [sum(each.values()) for each in (floor, bridge)]
    rows.append(["**all**", *(f"**{each:.1f}**" for each in total), f"**{total[1] - total[0]:+.1f}**"])
    return _table(["µs of processor time per call", "floor", "bridge", "difference"], rows)


def _code(figures):
    rows = []
    for name, size in figures.raw["code"].items():
        added = figures.added(5000, name, "50")
        rows.append([name, *(f"{size[what]:,}" for what in ["instructions", "lines", "pages"]), _plain(added),
                     _told(added.scaled(1000 / size["lines"]), 0)])
    head = ["", "instructions", "cache lines", "pages", "added p50, µs", "ns for each cache line"]
    return _table(head, rows)


def _budget():
    counts = budget()
    if not counts:
        return "not counted yet"
    told = ", ".join(f"{count:,} {name.removesuffix('_per_call')}" for name, count in sorted(counts.items())
                     if name.endswith("_per_call"))
    return f"{told} (`{BUDGET}`)"
