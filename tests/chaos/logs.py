"""What logs say that they should not."""

from __future__ import annotations

import json
import re

ACCEPT_ERROR = re.compile(r'^\S+: WebSocket is not connected\. Need to call "accept" first', re.MULTILINE)
SEVERE = {"ERROR", "CRITICAL"}


def gate_errors(log: str) -> list[str]:
    """Return the gate's lines that tell of a bug: severity ERROR or above, or no JSON at all."""
    return [line for line in log.splitlines() if line.strip() and _is_error(line)]


def _is_error(line: str) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return not line.startswith("readygate listening on ")
    return not isinstance(record, dict) or record.get("severity") in SEVERE


def backend_errors(log: str) -> dict[str, int]:
    """Count tracebacks, and accept errors among them, in a backend's log."""
    return {
        "tracebacks": log.count("Traceback (most recent"),
        "accept errors": len(ACCEPT_ERROR.findall(log)),
    }
