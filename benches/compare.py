"""Measures contestants beside each other in interleaved rounds, and writes the page about it; see benches/compare."""

import argparse
import json
import pathlib
import resource
import signal
import sys

from comparison import code, document, machine, measures, profile
from comparison.processes import Cores

DOCUMENT, PICTURE = pathlib.Path("docs/PERFORMANCE.md"), pathlib.Path("docs/latency.svg")


def arguments():
    parser = argparse.ArgumentParser(
        prog="benches/compare",
        description="Measures the bridge beside Envoy, vanguard-go, nginx and the least that the job can cost. Writes "
                    f"{DOCUMENT} and {PICTURE}. A round takes about ten minutes.")
    parser.add_argument("--rounds", type=int, default=5, help="each measures every contestant once (default 5)")
    parser.add_argument("--load-minutes", type=float, default=1,
                        help="how long memory is watched under load (default 1)")
    parser.add_argument("--quick", action="store_true", help="a short try of everything, which writes no page")
    parser.add_argument("--out", type=pathlib.Path, help="write the raw figures to this file, too, round by round")
    parser.add_argument("--from", type=pathlib.Path, dest="source", help="measure nothing: write the page anew, "
                        "from a file that --out has written")
    return parser.parse_args()


def measured(asked):
    """Everything, round by round. What --out names has each round as soon as it is through."""
    cores = Cores()
    settings = (measures.Settings(seconds=0.4, warmup=0.1, load=4, overload=1) if asked.quick else
                measures.Settings(seconds=3, warmup=1, load=60 * asked.load_minutes, overload=10))
    # Connections by the thousand.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    figures = {
        "machine": machine.described(), "pair_is_shared": cores.pair_is_shared, "load_seconds": settings.load,
        "binary": measures.binary(), "starts": measures.starts(), "load": measures.load(settings, cores),
        "profiles": profile.profiles(settings, cores), "code": code.of_calls(cores), "rounds": [],
    }
    rounds = 1 if asked.quick else asked.rounds
    for number in range(rounds):
        measures.tell(f"round {number + 1} of {rounds}")
        figures["rounds"].append(measures.Round(settings, cores).measure())
        if asked.out:
            asked.out.write_text(json.dumps(figures), encoding="utf-8")
    return figures


def main():
    asked = arguments()
    # What has been started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    figures = json.loads(asked.source.read_text(encoding="utf-8")) if asked.source else measured(asked)
    if asked.quick:
        print(document.page(figures))
    else:
        DOCUMENT.write_text(document.page(figures), encoding="utf-8")
        # Slow to import, and nothing else needs it.
        from comparison import picture
        picture.draw(figures, PICTURE)


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
