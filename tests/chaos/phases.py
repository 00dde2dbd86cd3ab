"""The faults, one function each: it does the harm, notes whom it touched and what they may see, and waits."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from tests.chaos.accounts import GAVE_UP, PLAIN_END
from tests.chaos.clients import PATIENCE_S, Fleet
from tests.chaos.harm import IN_A_FRAME, LOST, RESTARTED, Harm
from tests.chaos.relay import Link, Relay
from tests.chaos.stand import DEPARTURE_S, KEEPALIVE_S, Stand
from tests.chaos.stream import How, Way

DOWN_S = 2.0
PAUSE_S = KEEPALIVE_S / 2
STOPPED_S = KEEPALIVE_S + 5
HOLD_S = 5.0
STORM_S = 10.0
SLACK_S = 3.0
LINGER_S = 10.0  # how long the gate waits for a leg's end after it said its last to it


@dataclass(slots=True)
class Scene:
    """What a fault can get at."""

    stand: Stand
    fleet: Fleet
    dice: random.Random

    def drawn(self, relay: Relay, share: float) -> dict[str, Link]:
        """Return a share of the relay's links by identity, only of connections that live."""
        living = self.fleet.living()
        links = {link.path.rpartition("/")[2]: link for link in relay.share(share, self.dice)}
        return {identity: link for identity, link in links.items() if identity in living}

    def divided(self, relay: Relay, share: float, parts: int) -> list[dict[str, Link]]:
        """Return that share in so many parts."""
        drawn = list(self.drawn(relay, share).items())
        return [dict(drawn[part::parts]) for part in range(parts)]


Fault = Callable[[Scene, Harm], Awaitable[None]]


async def calm(_: Scene, __: Harm) -> None:
    """Nothing."""


async def killed(scene: Scene, harm: Harm) -> None:
    harm.touch(scene.fleet.living(), LOST, IN_A_FRAME)
    await scene.stand.end_backend(signal.SIGKILL)
    await asyncio.sleep(DOWN_S)
    await scene.stand.start_backend()


async def killed_while_some_trickle(scene: Scene, harm: Harm) -> None:
    stand = scene.stand
    _trickle(
        [*scene.drawn(stand.clients_side, 0.05).values(), *scene.drawn(stand.upstream_side, 0.05).values()]
    )
    await asyncio.sleep(1)
    await killed(scene, harm)


async def terminated(scene: Scene, harm: Harm) -> None:
    harm.touch(scene.fleet.living(), RESTARTED, LOST, IN_A_FRAME)
    await scene.stand.end_backend(signal.SIGTERM)
    await scene.stand.start_backend()


async def paused(scene: Scene, _: Harm) -> None:
    await _stop_for(scene.stand, PAUSE_S)


async def stopped(scene: Scene, harm: Harm) -> None:
    harm.touch(scene.fleet.living(), LOST, IN_A_FRAME)
    await _stop_for(scene.stand, STOPPED_S)


async def _stop_for(stand: Stand, seconds: float) -> None:
    stand.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        stand.signal(signal.SIGCONT)


async def clients_reset(scene: Scene, harm: Harm) -> None:
    links = scene.drawn(scene.stand.clients_side, 0.2)
    harm.touch(links, PLAIN_END, IN_A_FRAME)
    _must_be_free(harm, links, DEPARTURE_S + SLACK_S)
    for link in links.values():
        link.reset()


async def upstreams_reset(scene: Scene, harm: Harm) -> None:
    links = scene.drawn(scene.stand.upstream_side, 0.2)
    harm.touch(links, LOST, IN_A_FRAME)
    _must_be_free(harm, links, SLACK_S)
    for link in links.values():
        link.reset()


async def trickling(scene: Scene, _: Harm) -> None:
    stand = scene.stand
    links = [
        *scene.drawn(stand.clients_side, 0.05).values(),
        *scene.drawn(stand.upstream_side, 0.05).values(),
    ]
    _trickle(links)
    await asyncio.sleep(HOLD_S)
    for link in links:
        link.trickle(on=False)


def _trickle(links: Iterable[Link]) -> None:
    for link in links:
        link.trickle()


async def clients_frozen(scene: Scene, harm: Harm) -> None:
    """The gate hears nothing of two thirds of them, and cannot be heard by the last."""
    silent, mute, deaf = scene.divided(scene.stand.clients_side, 0.18, 3)
    found_s = KEEPALIVE_S + DEPARTURE_S + SLACK_S
    _freeze(harm, silent, found_s)
    harm.touch(silent, GAVE_UP)
    _freeze(harm, mute, found_s, Way.TO_TARGET)
    harm.touch(mute, GAVE_UP, PLAIN_END, IN_A_FRAME, "close 1001", "close 1006", "close 1011")
    _freeze(harm, deaf, PATIENCE_S + 1.5 + DEPARTURE_S + SLACK_S, Way.TO_CLIENT)
    harm.touch(deaf, GAVE_UP)


async def upstreams_frozen(scene: Scene, harm: Harm) -> None:
    """As `clients_frozen`. A client of an upstream that only does not hear any more finds out itself."""
    silent, mute, deaf = scene.divided(scene.stand.upstream_side, 0.18, 3)
    _freeze(harm, silent, KEEPALIVE_S + SLACK_S)
    _freeze(harm, mute, KEEPALIVE_S + SLACK_S, Way.TO_CLIENT)
    harm.touch([*silent, *mute], LOST, IN_A_FRAME)
    _freeze(harm, deaf, PATIENCE_S + 1.5 + DEPARTURE_S + LINGER_S + SLACK_S, Way.TO_TARGET)
    harm.touch(deaf, GAVE_UP)


def _freeze(harm: Harm, links: dict[str, Link], free_within_s: float, *ways: Way) -> None:
    """Freeze until the gate was to have let go; then whatever is left of the connection is dropped."""
    _must_be_free(harm, links, free_within_s)
    for link in links.values():
        link.freeze(*ways)
        harm.undo.append(link.reset)


def _must_be_free(harm: Harm, identities: Iterable[str], within_s: float) -> None:
    until = asyncio.get_running_loop().time() + within_s
    harm.free_by |= dict.fromkeys(identities, until)


async def cut_inside_frames(scene: Scene, harm: Harm) -> None:
    """Which ends follow depends on who gets half a frame: a client's own torn connection, or the gate's."""
    stand, dice = scene.stand, scene.dice
    ends = {
        (stand.clients_side, Way.TO_TARGET): (PLAIN_END, IN_A_FRAME),
        (stand.clients_side, Way.TO_CLIENT): (IN_A_FRAME,),
        (stand.upstream_side, Way.TO_TARGET): (LOST, IN_A_FRAME),
        (stand.upstream_side, Way.TO_CLIENT): (IN_A_FRAME,),
    }
    for relay in (stand.clients_side, stand.upstream_side):
        for way, links in zip(Way, scene.divided(relay, 0.1, 2), strict=True):
            for identity, link in links.items():
                if identity not in harm.allowed:
                    harm.touch([identity], *ends[relay, way])
                    link.cut(way, dice.choice(list(How)), dice.random())


async def storm(scene: Scene, harm: Harm) -> None:
    """Everything at once, the backend killed in the middle. Any end may follow, no account may be wrong."""
    harm.wild = True
    loop = asyncio.get_running_loop()
    until, restart = loop.time() + STORM_S, None
    while loop.time() < until:
        for relay in (scene.stand.clients_side, scene.stand.upstream_side):
            for link in scene.drawn(relay, 0.04).values():
                _any_harm(scene.dice, link, harm)
        if restart is None and loop.time() > until - STORM_S * 0.6:
            restart = loop.create_task(killed(scene, Harm()))
        await asyncio.sleep(0.5)
    await restart


def _any_harm(dice: random.Random, link: Link, harm: Harm) -> None:
    kind = dice.choice(("reset", "trickle", "freeze", "cut"))
    if kind == "reset":
        link.reset()
    elif kind == "trickle":
        link.trickle()
    elif kind == "cut":
        link.cut(dice.choice(list(Way)), dice.choice(list(How)), dice.random())
    else:
        link.freeze(*dice.choice(((), (Way.TO_TARGET,), (Way.TO_CLIENT,))))
        harm.undo.append(link.reset)


PHASES: dict[str, Fault] = {
    "calm": calm,
    "backend killed, down 2 s": killed,
    "a share fed byte by byte": trickling,
    "backend stopped 1.5 s": paused,
    "clients' connections reset": clients_reset,
    "upstream connections reset": upstreams_reset,
    "clients' connections frozen": clients_frozen,
    "backend told to stop, restarted": terminated,
    "upstream connections frozen": upstreams_frozen,
    "cut inside frames": cut_inside_frames,
    "backend stopped 8 s": stopped,
    "killed while some are fed byte by byte": killed_while_some_trickle,
    "storm of all of it": storm,
    "calm again": calm,
}
