"""What may be told of a request: secrets cut out, bytes made valid text, length bounded.

Every string of a peer passes through here before it reaches a span, a log line or the admin page.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_plus

REDACTED = "REDACTED"
MAX_VALUE_BYTES = 256  # the longest attribute value that Google's Trace API keeps
MAX_SUBPROTOCOL_CHARS = 64

# A JSON Web Token (RFC 7519), or one that was base64url-encoded once more ("eyJ" becomes "ZXlK").
_JWT = re.compile(r"eyJ[\w-]{4,}(?:\.[\w-]*){1,4}|ZXlK[\w-]{8,}")
_SCHEME = re.compile(r"\b(bearer|basic|digest|negotiate)(\s+|%20|\+)[^\s,;\"'&]+", re.IGNORECASE)
_HEADER = re.compile(
    r"((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|sec-websocket-protocol)(['\"]?\s*[:=,]\s*)[^\r\n]+",
    re.IGNORECASE,
)
_QUERY_PAIR = re.compile(r"([?&;])([^=&;?\s\"']+)=([^&;\s\"']*)")
_SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|jwt|bearer|credential|signature|session|ticket|nonce|cookie|authoriz|api[_.-]?key"
    r"|(?:^|[_.\-\[])(?:auth|key|sig|code|sid|pass|pwd|pin|otp|hmac)(?:$|[_.\-\]])|[a-z](?:key|Key)$"
)
_NESTED_NAME = re.compile(r"(?:^|[?&;#])([^=&;?#]+)=")  # of a URL or a query inside a value
# A long run without a break is an identifier at best and a token at worst: nobody reads it.
_OPAQUE = re.compile(r"(?=[^\d\s]*\d)[\w+/.~-]{32,}")
_OPAQUE_ALONE = re.compile(r"(?=[^\d\s]*\d)[\w+/.~-]{16,}")
_SUBPROTOCOL_PREFIX = re.compile(
    r"(base64url\.bearer\.|base64\.bearer\.|bearer[.-]|jwt-auth[.-]|jwt[.-](?!auth$)|(?:access|id|auth)[_-]?token[.-]"
    r"|token[.-]|authorization[.-]|auth[.-]|api-?key[.-]|ticket[.-])",
    re.IGNORECASE,
)
# Plain names after which browsers' clients put a bare token as the next "subprotocol".
_SUBPROTOCOL_MARKERS = frozenset(
    {"jwt-auth", "jwt", "bearer", "token", "access_token", "access-token", "auth", "authorization", "api-key"}
)
_SUBPROTOCOLS_KNOWN = frozenset(
    {
        "graphql-ws",
        "graphql-transport-ws",
        "mqtt",
        "mqttv3.1",
        "soap",
        "json",
        "chat",
        "mcp",
        "msrp",
        "sip",
        "xmpp",
    }
    | {"v10.stomp", "v11.stomp", "v12.stomp", "wamp.2.json", "wamp.2.msgpack", "ocpp1.6", "ocpp2.0.1"}
    | {"actioncable-v1-json", "vite-hmr", "tty", "binary", "base64"}
)


def clean(value: bytes | str, limit_bytes: int = MAX_VALUE_BYTES) -> str:
    """Return valid UTF-8 text of at most `limit_bytes` bytes; bytes that are not UTF-8 count as latin-1."""
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
    else:
        text = value
    if text.isascii():
        return text[:limit_bytes]
    return text.encode("utf-8", "replace")[:limit_bytes].decode("utf-8", "ignore")


@lru_cache(maxsize=512)
def _names_secret(name: str) -> bool:
    for _ in range(3):
        name = unquote_plus(name)
    return bool(_SECRET_NAME.search(name.lower()))


def _holds_secret(value: str) -> bool:
    plain = unquote_plus(value)
    return bool(_JWT.search(plain) or _SCHEME.search(plain))


def _hides_secret(value: str) -> bool:
    """Whether a value is opaque, or a URL or query of its own with a telling name in it."""
    for _ in range(3):
        value = unquote_plus(value)
    return bool(_OPAQUE.search(value)) or any(_names_secret(name) for name in _NESTED_NAME.findall(value))


def query(raw: str, names: frozenset[str] = frozenset()) -> str:
    """Return a query string (no `?`) whose secret values read `REDACTED`; order and all other bytes are kept.

    Secret is the value of a parameter with a telling name (token, jwt, auth, key, ..., percent-encoded or
    not), also inside a URL that is a value; any piece that looks like a JWT or carries an authentication
    scheme; and what is opaque: 32 characters in a run with a digit among them, 16 for a piece without a name.
    So is the value of a parameter that is one of `names`.
    """
    if not raw:
        return raw
    pieces = re.split(r"([&;])", raw)
    for index in range(0, len(pieces), 2):
        name, equals, value = pieces[index].partition("=")
        named = _names_secret(name) or (bool(names) and unquote_plus(name) in names)
        if equals and value and (named or _holds_secret(value) or _hides_secret(value)):
            pieces[index] = f"{REDACTED if _holds_secret(name) else name}={REDACTED}"
        elif _holds_secret(pieces[index]) or (not equals and _OPAQUE_ALONE.search(unquote_plus(name))):
            pieces[index] = REDACTED
    return "".join(pieces)


def path(raw: str) -> str:
    """Return a path without the tokens that some put into it."""
    return _JWT.sub(REDACTED, raw) if "eyJ" in raw or "ZXlK" in raw else raw


def subprotocols(raw: str, prefixes: tuple[str, ...] = ()) -> str:
    """Return a `Sec-WebSocket-Protocol` value without tokens: `jwt-auth, jwt.REDACTED`.

    `prefixes`: further beginnings behind which there is a token.
    """
    if not raw:
        return raw
    told: list[str] = []
    follows_marker = False
    for offered in raw.split(","):
        name = offered.strip()
        ours = next((each for each in prefixes if name.startswith(each) and name != each), None)
        marked = name.lower() in _SUBPROTOCOL_MARKERS
        if ours is not None and not marked:
            told.append(ours + REDACTED)
        else:
            told.append(_subprotocol(name, follows_marker=follows_marker))
        follows_marker = marked
    return ", ".join(told)


def _subprotocol(name: str, *, follows_marker: bool) -> str:
    lowered = name.lower()
    if lowered in _SUBPROTOCOL_MARKERS or lowered in _SUBPROTOCOLS_KNOWN:
        return name
    if prefix := _SUBPROTOCOL_PREFIX.match(name):
        return prefix[0] + REDACTED
    if follows_marker or len(name) > MAX_SUBPROTOCOL_CHARS or _holds_secret(name):
        return REDACTED
    return name


def text(raw: str) -> str:
    """Return free text (an error, a traceback) without what looks like a secret: the last net only."""
    told = _HEADER.sub(rf"\1\2{REDACTED}", raw)
    told = _SCHEME.sub(rf"\1 {REDACTED}", told)
    told = _QUERY_PAIR.sub(_pair, told) if "=" in told else told
    return _JWT.sub(REDACTED, told)


def _pair(match: re.Match[str]) -> str:
    lead, name, value = match.groups()
    return f"{lead}{name}={REDACTED if value and _names_secret(name) else value}"
