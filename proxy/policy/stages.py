"""What a stage keeps of what it inherits when its evidence changes between `fixed` and a proving one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.policy import keys
from proxy.policy.model import variant

if TYPE_CHECKING:
    from proxy.policy.tree import Node


def settle(tree: Node) -> Node:
    """Drop, in every stage, inherited keys of the other kind: `min_ms` where a child wrote `evidence: fixed`.

    Only what is older than the `evidence` goes. Written beside it or later, such a key is a mistake and stays
    to be reported.
    """
    handshake = tree.find("handshake")
    if handshake is None:
        return tree
    legs = {
        leg: _settled_leg(node) for leg, node in handshake.entries().items() if leg in {"client", "upstream"}
    }
    if not legs:
        return tree
    settled = replace(handshake, value={**handshake.entries(), **legs})
    return replace(tree, value={**tree.entries(), "handshake": settled})


def _settled_leg(leg: Node) -> Node:
    if not leg.entries():
        return leg
    return replace(leg, value={name: _settled_stage(name, node) for name, node in leg.entries().items()})


def _settled_stage(name: str, stage: Node) -> Node:
    evidence = stage.entries().get("evidence")
    known = keys.document().inner["handshake"].inner["client"].inner.get(name)
    if evidence is None or known is None:
        return stage
    here = known.names(variant({"evidence": evidence.value}))
    foreign = [k for k, n in stage.entries().items() if k not in here and n.layer < evidence.layer]
    return stage.without(*[key for key in foreign if key in known.inner])
