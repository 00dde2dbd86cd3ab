"""A policy file that changes, and a backend for gates that notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import launch
from tests.backends.launch import Server


class PolicyFile:
    """One policy file; `says` writes it anew in one step, as an editor or a ConfigMap does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "gate.yaml"

    def __str__(self) -> str:
        return str(self.path)

    def says(self, text: str) -> None:
        fresh = self.folder / "fresh"
        fresh.write_text(text)
        fresh.replace(self.path)

    def lost_code(self, code: int) -> None:
        """Let sessions whose upstream is lost end with this code."""
        self.says(f"extends: testing\nsession: {{upstream_lost_code: {code}}}\n")


@pytest.fixture
def policy(tmp_path: Path) -> PolicyFile:
    file = PolicyFile(tmp_path)
    file.lost_code(4001)
    return file


@pytest.fixture
def backend() -> Iterator[Server]:
    with launch.flaky() as server:
        yield server
