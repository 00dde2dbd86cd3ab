"""Policy files in a folder of their own, and what the loader says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.policy import Policy, PolicyError, load

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a policy file and return its path."""

    def writer(text: str | bytes, name: str = "gate.yaml") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return writer


@pytest.fixture
def policy(write: Write) -> Callable[[str], Policy]:
    """Load a policy from its text."""
    return lambda text: load(str(write(text)))


@pytest.fixture
def errors(write: Write, tmp_path: Path) -> Callable[[str | bytes], list[str]]:
    """Load a policy from a text that is wrong; return the lines of the error without the folder."""

    def loader(text: str | bytes) -> list[str]:
        with pytest.raises(PolicyError) as caught:
            load(str(write(text)))
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return loader
