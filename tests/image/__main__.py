"""`make image-test`: builds the image, runs it as a sidecar under tight limits, and prints what was seen.

Root, buildah, podman, runc and mmdebstrap are wanted. Only the builds use the network: the containers have a
namespace with a loopback interface and nothing else. Containers are removed at the end; images stay for the
next run (podman image prune; podman rmi).
"""

from __future__ import annotations

import argparse
import signal
import sys
import time

from tests.image import building, checks, containers, figures
from tests.image.bases import bases
from tests.image.engine import FailedError, missing
from tests.image.row import Row, failed, table

# Without a tool or root.
CANNOT = 2


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.image", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="3 starts and 200 sessions instead of 9 and 1,000"
    )
    parser.add_argument("--fresh", action="store_true", help="make the bases anew, too")
    return parser.parse_args()


def step(text: str, began: float) -> float:
    """Say how long something took; return now."""
    now = time.monotonic()
    print(f"{text} ({now - began:.0f} s)", flush=True)
    return now


def built(fresh: bool) -> list[Row]:
    """Make the images."""
    now = time.monotonic()
    chosen = bases(fresh=fresh)
    now = step(chosen.told, now)
    building.image(chosen)
    now = step("built the image with make image", now)
    building.application(chosen)
    step("built the application's", now)
    return [*figures.size(chosen), *checks.of_image()]


def ran(starts: int, sessions: int) -> list[Row]:
    """Run them."""
    limits, word = containers.limits()
    print(word or f"limits: {' '.join(limits)}", flush=True)
    now = time.monotonic()
    rows = [figures.starts(limits, starts)]
    now = step("started it again and again", now)
    with containers.application() as app:
        app.start()
        beside = f"container:{app.name}"
        with containers.gate(beside, limits) as gate:
            gate.start()
            gate.wait_for_log(figures.LISTENING)
            rows += [*checks.of_gate(gate), *figures.crowd(gate, sessions)]
        rows += [checks.of_stopping_early(limits), *checks.of_workers(beside, limits)]
    step("ran it beside the application", now)
    return rows


def main() -> int:
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what we started is ended and removed
    if why := missing():
        print(f"image-test: {why}", file=sys.stderr)
        return CANNOT
    try:
        rows = built(chosen.fresh) + ran(*(3, 200) if chosen.quick else (9, 1000))
    except FailedError as error:
        print(f"image-test: {error}", file=sys.stderr)
        return 1
    print(f"\n{table(rows)}\n\ncontainers are removed; images are left for the next run: podman images")
    return 1 if failed(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
