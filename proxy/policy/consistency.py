"""Values that are each in range and yet do not fit together.

These checks look at the tree, not at the model, so that they speak even while other values are wrong. Of two
values that do not fit, the one that was written over the other is reported.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.policy.model import Announcement
from proxy.policy.problems import Problem, show
from proxy.policy.routes import checked_pattern, checked_rewrite, rewrite_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy.policy.tree import Node

_LEGS = ("handshake.client", "handshake.upstream")
_STAGE_BUDGETS = (
    "propagation.budget_ms",
    "validation.budget_ms",
    "stabilization.budget_ms",
    "stabilization.max_ms",
    "announcement.budget_ms",
)
_BUDGETS = [f"{leg}.{budget}" for leg in _LEGS for budget in _STAGE_BUDGETS]
_DEADLINE = "handshake.deadline_s"
_ORDERED = [
    *((f"{leg}.stabilization.min_ms", f"{leg}.stabilization.max_ms") for leg in _LEGS),
    ("handshake.redial.base_ms", "handshake.redial.max_ms"),
    ("departure.min_ms", "departure.max_ms"),
    ("departure.quiet_ms", "departure.max_s"),
    *((f"keepalive.{leg}.interval_s", f"keepalive.{leg}.timeout_s") for leg in ("client", "upstream")),
    ("drain.spread_s", "drain.grace_s"),
]
_FORWARDED = "http.forwarded"
_HOPS = "http.trusted_hops"
# What a route cannot override, by section, and what it can. A process has one TLS context, which its sessions
# and its pooled connections for plain HTTP share; limits count what all sessions of a process have together;
# hosts are looked at before a route is.
OF_THE_PROCESS = {
    "upstream": (("tls",), "connect_timeout_s alone (upstream.tls at the top is for all routes)"),
    "guard": (("hosts",), "origins, origin_required or jwt (guard.hosts at the top is for all routes)"),
    "limits": (
        (
            *("sessions", "sessions_per_client", "handshakes_pending", "early_bytes_total", "header_bytes"),
            "connections",
        ),
        "message_bytes, messages_per_s or idle_s (the other limits are for the whole process)",
    ),
}


def conflicts(tree: Node, wrong: list[Problem]) -> list[Problem]:
    """Return what does not fit together in a whole tree. What is `wrong` by itself is left out."""
    said = {problem.key for problem in wrong}
    paths = {*_BUDGETS, _DEADLINE, *(path for pair in _ORDERED for path in pair)} - said
    times = {path: node for path in paths if (node := tree.find(path)) and _is_number(node.value)}
    times |= {path: node for path, node in _unwritten(tree) if path not in said}
    found = [problem for low, high in _ORDERED if (problem := _order(times, low, high))]
    return found + _over_deadline(times) + _no_first_hop(tree, said)


def _no_first_hop(tree: Node, said: set[str]) -> list[Problem]:
    """Say so if what hops say is both believed and thrown away."""
    forwarded, hops = tree.find(_FORWARDED), tree.find(_HOPS)
    if forwarded is None or hops is None or said & {_FORWARDED, _HOPS}:
        return []
    if forwarded.value != "replace" or not hops.value:
        return []
    if forwarded.layer >= hops.layer:
        return [_problem(forwarded, _FORWARDED, f"keep ({_HOPS} is {show(hops.value)})")]
    return [_problem(hops, _HOPS, f"0 ({_FORWARDED} is replace)")]


def _unwritten(tree: Node) -> Iterator[tuple[str, Node]]:
    """Yield the budgets of announcements that do not write theirs: no other stage has one from the model."""
    budget_ms = Announcement.model_fields["budget_ms"].default
    for leg in _LEGS:
        announcement = tree.find(f"{leg}.announcement")
        entries = announcement.entries() if announcement else {}
        evidence = entries.get("evidence")
        if evidence and evidence.value == "message" and "budget_ms" not in entries:
            yield f"{leg}.announcement.budget_ms", replace(evidence, value=budget_ms)


def _over_deadline(times: dict[str, Node]) -> list[Problem]:
    """Each budget beyond the deadline; a deadline too short for several is said once, for the longest."""
    problems: dict[str, Problem] = {}
    longest_first = sorted((path for path in _BUDGETS if path in times), key=lambda p: -_ms(p, times[p]))
    for path in longest_first:
        problem = _order(times, path, _DEADLINE)
        if problem:
            problems.setdefault(problem.key, problem)
    return list(problems.values())


def _order(times: dict[str, Node], low: str, high: str) -> Problem | None:
    """Say so if the time `low` is longer than the time `high`; they may be in different units."""
    least, most = times.get(low), times.get(high)
    if least is None or most is None or _ms(low, least) <= _ms(high, most):
        return None
    if most.layer > least.layer:
        bound = show(_ms(low, least) / _unit_ms(high))
        return _problem(most, high, f"at least {bound} ({low} is {show(least.value)})")
    bound = show(_ms(high, most) / _unit_ms(low))
    return _problem(least, low, f"at most {bound} ({high} is {show(most.value)})")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ms(path: str, node: Node) -> float:
    assert isinstance(node.value, int | float)
    return node.value * _unit_ms(path)


def _unit_ms(path: str) -> int:
    return 1000 if path.endswith("_s") else 1


def _problem(node: Node, key: str, expected: str) -> Problem:
    return Problem(node.file, node.line, key, show(node.value), expected)


def route_conflicts(tree: Node) -> Iterator[Problem]:
    """Yield what does not fit in routes: a path twice, a rewrite beyond its path, what a process has once."""
    routes = tree.entries().get("routes")
    first: dict[str, int] = {}
    for number, route in enumerate(routes.items() if routes else []):
        yield from _of_the_process(route, number)
        path, rewrite = route.find("path"), route.find("rewrite")
        if path is None or not _is(checked_pattern, path.value):
            continue
        pattern = str(path.value)
        if pattern in first:
            other = f"a path that routes[{first[pattern]}] does not have yet"
            yield _problem(path, f"routes[{number}].path", other)
        first.setdefault(pattern, number)
        if rewrite and _is(checked_rewrite, rewrite.value):
            fault = rewrite_fault(pattern, str(rewrite.value))
            if fault:
                yield _problem(rewrite, f"routes[{number}].rewrite", fault)


def _of_the_process(route: Node, number: int) -> Iterator[Problem]:
    for section, (names, instead) in OF_THE_PROCESS.items():
        for name in names:
            if node := route.find(f"{section}.{name}"):
                key, found = f"routes[{number}].{section}.{name}", "a key that a route cannot override"
                yield Problem(node.file, node.line, key, found, instead)


def _is(check: Callable[[str], str], value: object) -> bool:
    try:
        return isinstance(value, str) and bool(check(value))
    except ValueError:
        return False
