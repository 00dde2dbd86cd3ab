"""Pictures of a run, with matplotlib: CPU by message size, CPU by connections, how long opening takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.opening import REPLY
from tests.bench.report import Report
from tests.bench.result import DIRECT, GATE, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BY_SIZE = {"echo-64B-100": 64, "echo-1KiB-100": 1024, "echo-64KiB-20": 1 << 16, "echo-1MiB-4": 1 << 20}
BY_CONNECTIONS = {"echo-64B-1": 1, "echo-64B-100": 100, "echo-64B-1000": 1000, "echo-64B-5000": 5000}
SIZES = {64: "64 B", 1024: "1 KiB", 1 << 16: "64 KiB", 1 << 20: "1 MiB"}
COLOURS = {
    GATE: "tab:red",
    DIRECT: "tab:gray",
    "classic": "tab:orange",
    "nginx": "tab:green",
    "haproxy": "tab:blue",
    "envoy": "tab:purple",
    "caddy": "tab:brown",
}


def draw(report: Report, stem: Path) -> tuple[list[Path], str]:
    """Write the plots that have results, named after `stem`. Returns them, and why there are none."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - optional
    except ImportError:
        return [], "matplotlib is not installed, so there are no plots: make bench-setup"
    results = {result.name: result for result in report.results}
    paths = []
    for name, paint in {"size": by_size, "connections": by_connections, "opening": time_to_open}.items():
        figure = Figure(figsize=(8, 5), layout="constrained")
        if paint(figure.subplots(), results):
            path = stem.with_name(f"{stem.name}-{name}.png")
            figure.savefig(path, dpi=120)
            paths.append(path)
    return paths, ""


def by_size(axes: Axes, results: Mapping[str, Result]) -> bool:
    """Draw CPU per message by its size; whether there was anything to draw."""
    axes.set(title="CPU of the proxy per echoed message", xlabel="message", ylabel="us of CPU", yscale="log")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(SIZES), list(SIZES.values()))
    return lines(axes, results, BY_SIZE)


def by_connections(axes: Axes, results: Mapping[str, Result]) -> bool:
    """Draw CPU per message by the number of connections; whether there was anything to draw."""
    axes.set(
        title="CPU of the proxy per echo of 64 B", xlabel="connections", ylabel="us of CPU", xscale="log"
    )
    axes.set_xticks(list(BY_CONNECTIONS.values()), [f"{count:,}" for count in BY_CONNECTIONS.values()])
    drawn = lines(axes, results, BY_CONNECTIONS)
    axes.set_ylim(bottom=0)
    return drawn


def lines(axes: Axes, results: Mapping[str, Result], points: Mapping[str, int]) -> bool:
    """Draw a line for each way through the workloads that were run."""
    ways = dict.fromkeys(way for name in points if name in results for way in results[name].ways)
    for way in ways:
        found = [
            (x, value)
            for name, x in points.items()
            if name in results and (value := results[name].median(way)) is not None
        ]
        if found and way in COLOURS:
            width = 2.5 if way == GATE else 1.5
            axes.plot(*zip(*found, strict=True), marker="o", label=way, color=COLOURS[way], linewidth=width)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    return bool(axes.lines)


def time_to_open(axes: Axes, results: Mapping[str, Result]) -> bool:
    """Draw the share of connections that got so far within a time; whether there was anything to draw.

    With fixed delays a 101 comes early, and what is said after it is held: so the first reply is drawn too.
    """
    samples = results["opening"].samples if "opening" in results else {}
    for name, values in samples.items():
        way = name.removesuffix(REPLY)
        style = "-" if name.endswith(REPLY) else ":"
        axes.ecdf(values, label=name, color=COLOURS.get(way), linestyle=style, linewidth=2)
    axes.set(title="Time to open on a healthy uvicorn", xlabel="ms", ylabel="share", xscale="log")
    ticks = [1, 2, 5, 10, 20, 50, 100, 200]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    return bool(axes.lines)
