"""Which preset fits the place where we run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PRESET_OF = {
    "development": "development",
    "develop": "development",
    "dev": "development",
    "local": "development",
    "testing": "testing",
    "test": "testing",
    "ci": "testing",
    "staging": "staging",
    "stage": "staging",
    "stg": "staging",
    "production": "production",
    "prod": "production",
    "live": "production",
}
_STAGING_WORDS = frozenset(name for name, preset in _PRESET_OF.items() if preset == "staging")
_NO = frozenset({"", "0", "false", "no", "off"})


def detect(environ: Mapping[str, str]) -> str:
    """Return the name of the preset that fits `environ`.

    The first rule that says something decides:

    1. `ENVIRONMENT`, then `ENV`: a person said it. Unknown words say nothing (`ENV` is also the name of a
       shell's start file).
    2. `K_SERVICE` (Cloud Run, Knative): `staging` when the service's name has that word, else `production`.
    3. `KUBERNETES_SERVICE_HOST`: `production`.
    4. `PYTEST_CURRENT_TEST` or `CI`: `testing`. After 2 and 3, because images carry `CI=true` into
       production, where budgets that are too short cost more than some milliseconds cost in a test.
    5. Otherwise `development`.
    """
    for variable in ("ENVIRONMENT", "ENV"):
        preset = _PRESET_OF.get(environ.get(variable, "").strip().lower())
        if preset:
            return preset
    service = environ.get("K_SERVICE", "")
    if service:
        words = set(re.split(r"[^a-z]+", service.lower()))
        return "staging" if words & _STAGING_WORDS else "production"
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "production"
    if environ.get("PYTEST_CURRENT_TEST") or environ.get("CI", "").strip().lower() not in _NO:
        return "testing"
    return "development"
