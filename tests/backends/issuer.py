"""Who issues tokens: keys of every kind, signed tokens, and a real HTTP server for its key set.

with Issuer() as issuer:
    issuer.token(sub="ada"); issuer.rotate(); issuer.mode = "hang"
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import threading
import time
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
ALGORITHMS = [
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    *CURVES,
    "EdDSA",
]


_making = threading.RLock()


@dataclass(frozen=True, slots=True)
class Signing:
    """A key to sign with, and what it is checked by: PEM, or the secret itself."""

    algorithm: str
    private: Any
    public: bytes

    def token(self, kid: str | None = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token that is good for ten minutes, unless its claims say otherwise; None leaves a claim out."""
        told = {"sub": "ada", "exp": int(time.time()) + 600} | claims
        told = {name: value for name, value in told.items() if value is not None}
        headers = {"kid": kid} if kid is not None else {}
        return jwt.encode(told, self.private, self.algorithm, headers=headers | (header or {}))

    def jwk(self, kid: str | None, **members: Any) -> dict[str, Any]:
        """The public key as a JWK."""
        kind = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}[self.algorithm[0]]
        kind = OKPAlgorithm if self.algorithm == "EdDSA" else kind
        return json.loads(kind.to_jwk(self.private.public_key())) | {"kid": kid, "use": "sig"} | members


def signing(algorithm: str, number: int = 0) -> Signing:
    """A key for an algorithm; made once a process, `number` tells several apart."""
    with _making:  # the server's thread asks, too
        return _signing(algorithm, number)


@cache
def _signing(algorithm: str, number: int) -> Signing:
    if algorithm.startswith("HS"):
        secret = secrets.token_urlsafe(SECRET_BYTES[algorithm])[: SECRET_BYTES[algorithm]].encode()
        return Signing(algorithm, secret, secret)
    if algorithm == "EdDSA":
        private: Any = ed25519.Ed25519PrivateKey.generate()
    elif algorithm in CURVES:
        private = ec.generate_private_key(CURVES[algorithm])
    else:
        private = (
            _signing("RS256", number).private
            if algorithm != "RS256"
            else rsa.generate_private_key(65537, 2048)
        )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Signing(algorithm, private, public)


def encoded(token: str) -> str:
    """The token in base64url once more, unpadded."""
    return base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def bent(token: str) -> str:
    """The token with another signature of the same length."""
    head, _, signature = token.rpartition(".")
    return f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


class Issuer:
    """Serves its key set at `url`. `mode`: `ok`, `500`, `hang`, `garbage`, `huge`, `redirect` or `empty`."""

    def __init__(self, algorithm: str = "ES256", tls: ssl.SSLContext | None = None) -> None:
        self.algorithm = algorithm
        self.mode = "ok"
        self.fetches = 0
        self.fetched = threading.Condition()
        self._released = threading.Event()
        self._number = 0
        self.kid = "key-0"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def key(self) -> Signing:
        return signing(self.algorithm, self._number)

    def token(self, **claims: Any) -> str:
        return self.key.token(self.kid, **claims)

    def rotate(self) -> None:
        """Sign with another key from now on, and publish that one only."""
        self._number += 1
        self.kid = f"key-{self._number}"

    def release(self) -> None:
        """Let answers that hang go on."""
        self._released.set()

    def wait_fetches(self, count: int, within_s: float) -> bool:
        """Wait until the key set was asked for so often; return whether it was."""
        with self.fetched:
            return self.fetched.wait_for(lambda: self.fetches >= count, within_s)

    def answer(self) -> tuple[int, bytes]:
        if self.mode == "hang":
            self._released.wait(60)
        keys = [] if self.mode == "empty" else [self.key.jwk(self.kid)]
        match self.mode:
            case "500":
                return 500, b"{}"
            case "garbage":
                return 200, b"<html>please log in</html>"
            case "huge":
                return 200, b'{"keys": [' + b" " * (1 << 20) + b"]}"
            case "redirect":
                return 302, b""
        return 200, json.dumps({"keys": keys}).encode()

    def _handler(issuer) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's inside
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                elsewhere = self.path == "/elsewhere"
                with issuer.fetched:
                    issuer.fetches += 1
                    issuer.fetched.notify_all()
                status, body = (200, json.dumps({"keys": []}).encode()) if elsewhere else issuer.answer()
                try:
                    self.send_response(status)
                    self.send_header("Location", f"http://127.0.0.1:{issuer.port}/elsewhere")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # whoever asked has given up

            def log_message(self, *_: object) -> None:
                pass

        return Handler
