"""Kinds of values that keys of several sections have, and how strictly all of them are read."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field

LongS: TypeAlias = Annotated[float, Field(ge=0.01, le=604_800)]
FilePath: TypeAlias = Annotated[str, Field(min_length=1, max_length=4096, description="the path of a file")]

_SENDABLE = "1000 to 1003, 1007 to 1014 or 3000 to 4999"


# RFC 6455 section 7.4.1: 1004 is reserved; 1005, 1006 and 1015 "MUST NOT be set as a status code in a Close
# control frame by an endpoint".
def _sendable(code: int) -> int:
    if code in {1004, 1005, 1006} or code in range(1015, 3000):
        raise ValueError(f"a whole number: {_SENDABLE}")
    return code


SentCloseCode: TypeAlias = Annotated[
    int, Field(ge=1000, le=4999, description=_SENDABLE), AfterValidator(_sendable)
]


# Of a section: exactly these keys, of exactly these types.
STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)
