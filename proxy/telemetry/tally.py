"""Counters that cost a tenth of a microsecond an increment where the SDK's take three.

They are plain dictionaries, which observable instruments read when somebody collects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.metrics import CallbackOptions

LIMIT: Final = 1000  # label sets
OTHER: Final = "other"


class Tally:
    """A counter or gauge by labels: `labels` names them, keys are their values in that order.

    `live` returns what is to be told; without it that is what was added.
    """

    __slots__ = ("_labels", "_live", "_values")

    def __init__(self, *labels: str, live: Callable[[], Mapping[tuple[str, ...], int]] | None = None) -> None:
        self._labels = labels
        self._values: dict[tuple[str, ...], int] = {} if labels else {(): 0}
        self._live = live or self.values

    def add(self, amount: int, *key: str) -> None:
        """Add `amount`; a key beyond the limit counts as `other` in every label."""
        values = self._values
        if key not in values and len(values) >= LIMIT:
            key = (OTHER,) * len(key)
        values[key] = values.get(key, 0) + amount

    def value(self, *key: str) -> int:
        """Return the count of one key."""
        return self._values.get(key, 0)

    def values(self) -> dict[tuple[str, ...], int]:
        """Return a copy of all counts."""
        return self._values.copy()

    def totals(self) -> dict[str, int]:
        """Return the sums by the first label."""
        sums: dict[str, int] = {}
        for key, value in self._values.items():
            sums[key[0]] = sums.get(key[0], 0) + value
        return sums

    def observe(self, _: CallbackOptions) -> Iterable[Observation]:
        """Tell the SDK all values (may run on an exporter's thread)."""
        return [
            Observation(value, dict(zip(self._labels, key, strict=True)))
            for key, value in self._live().items()
        ]
