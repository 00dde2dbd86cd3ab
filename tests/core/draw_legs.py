"""Write docs/leg-states.md from the table of `proxy.core.leg`: `python -m tests.core.draw_legs`."""

from __future__ import annotations

from pathlib import Path

from proxy.core.leg import mermaid

PAGE = Path(__file__).resolve().parents[2] / "docs" / "leg-states.md"

_TEXT = """\
# The states of a leg

A session has two legs, `client` and `upstream`; both are instances of one class and follow one table,
`TRANSITIONS` in [`proxy/core/leg.py`](../proxy/core/leg.py). What the table does not have raises.

```mermaid
{picture}
```

| trigger | what it means |
| --- | --- |
| `dial` | a try at the upstream begins |
| `connected` | its connection stands, the upgrade request is out |
| `accepted` | the 101: the upstream's arrived, or ours went out |
| `pass` | the running stage is over: proved, expired or skipped |
| `answer` | the peer closed of its own will: what it said is its answer |
| `redial` | this try failed, another follows |
| `open` | the gate opens |
| `depart` | the other side left: this one is told when it has gone quiet |
| `close` | the connection is over |

The client leg starts with `accepted`; only the upstream leg is dialled and redialled.

This page is generated from the table: `python -m tests.core.draw_legs` writes it again, and a test compares.
"""


def page() -> str:
    """The whole page as it should stand in docs/."""
    return _TEXT.format(picture=mermaid())


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
