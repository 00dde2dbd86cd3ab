"""`python -m tests.bench.first_figures`: relay CPU against nginx, latency of opening, cost of idle sessions.

Prints each figure with its target and exits 1 when one is missed. Raw numbers go to bench-results/.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.backends import launch
from tests.bench import idle, opening, relay_cpu

FIGURES = ("relay", "opening", "idle")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.first_figures", description=__doc__)
    parser.add_argument("--only", action="append", choices=FIGURES, help="may be repeated; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="of the relay figure, each way")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one such round")
    parser.add_argument("--connects", type=int, default=300, help="of the opening figure, each way")
    parser.add_argument("--sessions", type=int, default=2000, help="of the idle figure")
    options = parser.parse_args()
    launch.may_open()
    figures = []
    for name in options.only or FIGURES:
        try:
            new = {
                "relay": lambda: [relay_cpu.measure(options.rounds, options.seconds)],
                "opening": lambda: [opening.measure(options.connects)],
                "idle": lambda: idle.measure(options.sessions),
            }[name]()
        except launch.MissingToolError as error:
            print(f"{name}: skipped, {error}\n")
            continue
        figures += new
        print("\n\n".join(figure.show() for figure in new), end="\n\n", flush=True)
    results = Path("bench-results")
    results.mkdir(exist_ok=True)
    path = results / time.strftime("first-figures-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps([vars_of(figure) for figure in figures]))
    print(f"raw numbers in {path}")
    return 0 if all(figure.met for figure in figures) else 1


def vars_of(figure: object) -> dict:
    return {name: getattr(figure, name) for name in ("title", "unit", "value", "target", "lines", "raw")}


if __name__ == "__main__":
    sys.exit(main())
