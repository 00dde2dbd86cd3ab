"""The door: every request of the public port comes through `Acceptor.handle`.

An upgrade request is judged by RFC 6455 4.2.1 and becomes a session; everything else passes through as HTTP.
"""

from __future__ import annotations

import logging
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import ClientError, web
from aiohttp.http import HttpVersion11

from proxy.core.report import HandshakeReport, Outcome
from proxy.edge.admit import NO_CLAIMS, authenticate, claims_of, refuse_token, turn_down
from proxy.edge.exact import ExactResponse
from proxy.edge.headers import (
    Pair,
    end_to_end,
    forwarded,
    of_response,
    origin_form,
    with_host,
    without_forwarded,
)
from proxy.edge.http import log as http_log
from proxy.edge.problem import problem
from proxy.edge.session import Session
from proxy.edge.shared import now_ms
from proxy.edge.switching import Offer
from proxy.edge.takeover import TakenOver, head_arrived
from proxy.edge.upgrade import BadUpgrade, asks_for_websocket, check_upgrade
from proxy.guard import (
    HEADER_BYTES,
    RefusedError,
    asked_host,
    bad_host,
    client_address,
    head_bytes,
    host_denied,
    origin_denied,
    path_denied,
    request_fault,
)
from proxy.telemetry import RequestFacts, redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from proxy.edge.http import PassThrough
    from proxy.edge.session import Refusal
    from proxy.edge.shared import Shared
    from proxy.guard import Denial, Fault, Limit
    from proxy.policy import Route
    from proxy.telemetry.traces import HandshakeTrace

_log = logging.getLogger("readygate.accept")
_UNAVAILABLE: Final = 503
_OWN_PATHS: Final = "/_readygate/"
_TOLD_BYTES: Final = 255


class Acceptor:
    """Decides what a request is, and answers it. `health` answers the paths under `/_readygate/`."""

    def __init__(
        self,
        shared: Shared,
        passes: PassThrough,
        health: Callable[[str], Awaitable[web.StreamResponse]],
        scheme: str = "http",
    ) -> None:
        self._shared = shared
        self._passes = passes
        self._health = health
        self._scheme = scheme

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; a session's connection is taken over instead."""
        await head_arrived(request)
        began_ms = now_ms()
        fault = request_fault(request.raw_path, request.version[:2], request.raw_headers)
        if fault is not None:
            return self._counted(await self._unclear(request, fault), began_ms)
        return await self._answer(request, began_ms)

    async def _answer(self, request: web.BaseRequest, began_ms: float) -> web.StreamResponse:
        """Answer a request whose head is clear."""
        target, authority = origin_form(request.method, request.raw_path)
        path, question, query = target.decode("utf-8", "surrogateescape").partition("?")
        host, own = _host(request, authority), path.startswith(_OWN_PATHS)
        if denied := self._host_denied(request, host, own=own):
            return self._counted(self._deny(denied, host), began_ms)
        if own:
            return await self._health(path.removeprefix(_OWN_PATHS))
        route = self._shared.policy.route(path)
        rewritten = route.rewrite(path) + question + query
        upgrades = asks_for_websocket(request)
        if denied := self._path_denied(path, upgrades=upgrades):
            return self._counted(self._deny(denied, path), began_ms)
        if not upgrades:
            return self._counted(await self._pass(request, route, rewritten), began_ms)
        try:
            key = check_upgrade(request)
        except BadUpgrade as bad:
            return self._counted(self._refuse_upgrade(request, route, bad), began_ms)
        return await self._serve(request, route, rewritten, key, host)

    def _counted(self, response: web.StreamResponse, began_ms: float) -> web.StreamResponse:
        """Count the answer to what is no handshake, whoever gave it."""
        self._shared.telemetry.metrics.http_request(response.status, (now_ms() - began_ms) / 1000)
        return response

    async def _pass(self, request: web.BaseRequest, route: Route, target: str) -> web.StreamResponse:
        """Answer what is no handshake. Of the limits, the one on its head is for it, too."""
        if _head(request) > self._shared.policy.default.settings.limits.header_bytes:
            return self._turn_away(HEADER_BYTES)
        fields, claims = self._shared.checks.without_spoofed(request.raw_headers), NO_CLAIMS
        jwt = route.settings.guard.jwt
        if jwt is not None and jwt.http:
            try:
                claims = await claims_of(self._shared.checks.by_pattern[route.pattern], request, target)
            except RefusedError as refused:
                return refuse_token(self._shared, refused.reason, route.settings.retry_after_s)
        complain = partial(self._complain, http_log, request, route)
        return await self._passes.handle(request, target, fields, claims, complain)

    def _refuse_upgrade(self, request: web.BaseRequest, route: Route, bad: BadUpgrade) -> web.Response:
        """Answer what is no handshake, but meant to be one; it counts as plain HTTP."""
        told: dict[str, object] = {"status": int(bad.status), "reason": bad.reason}
        self._complain(_log, request, route, "bad upgrade", told)
        refused = bad.response()
        refused.force_close()
        return refused

    def _complain(
        self,
        log: logging.Logger,
        request: web.BaseRequest,
        route: Route,
        message: str,
        fields: dict[str, object],
    ) -> None:
        self._shared.telemetry.complain(log, message, self._facts(request, route), fields)

    async def _serve(
        self, request: web.BaseRequest, route: Route, target: str, key: bytes, host: str
    ) -> web.StreamResponse:
        """Open a session, or say why not."""
        facts = self._facts(request, route)
        trace = self._shared.telemetry.handshake(facts, now_ms())
        if denied := self._origin_denied(request, route, host):
            trace.finish(
                HandshakeReport(Outcome.REJECTED, denied.status, (), (), guard=denied.name), now_ms()
            )
            return self._deny(denied, request.headers.get("Origin", ""))
        refused = self._limited(request, route, facts, trace)
        if refused is not None:
            return refused
        offer, expiry = self._offer(request, target, key, host), None
        if route.settings.guard.jwt is not None:
            check = self._shared.checks.by_pattern[route.pattern]
            try:
                with self._shared.checking():
                    offer, expiry = await authenticate(check, request, offer, trace)
            except RefusedError as error:
                retry_after_s = route.settings.retry_after_s
                return turn_down(self._shared, check, request, offer, trace, error.reason, retry_after_s)
            # It may have waited for a key. Meanwhile others may have come, or the gate have begun to stop.
            refused = self._limited(request, route, facts, trace)
            if refused is not None:
                return refused
        session = Session(self._shared, request, route, offer, trace, facts.client, expiry)
        refusal = await session.open()
        if refusal is None:
            return TakenOver()
        try:
            return await _refuse(request, refusal, route.settings.retry_after_s)
        finally:
            session.answered()

    def _limited(
        self, request: web.BaseRequest, route: Route, facts: RequestFacts, trace: HandshakeTrace
    ) -> web.Response | None:
        """Return the answer of a limit that is reached, or of a gate that stops; None while there is room."""
        if self._shared.draining:
            trace.finish(HandshakeReport(Outcome.FAILED, _UNAVAILABLE, (), ()), now_ms())
            return _unavailable("the gate is stopping", route.settings.retry_after_s)
        limit = self._shared.limit_reached(facts.client, _head(request))
        if limit is None:
            return None
        trace.finish(HandshakeReport(Outcome.REJECTED, limit.status, (), (), limit=limit.name), now_ms())
        return self._turn_away(limit, route.settings.retry_after_s)

    def _turn_away(self, limit: Limit, retry_after_s: int | None = None) -> web.Response:
        """Answer a request that a limit refuses: count it, and say it in the log now and then."""
        self._shared.telemetry.metrics.limit_hit(limit.name)
        refused = self._shared.quieter.refused(limit, self._shared.loop.time())
        if refused is not None:
            fields = {"limit": limit.name, "status": limit.status, "refused": refused}
            _log.warning("limit reached", extra={"fields": fields})
        response = problem(limit.status, limit.title, limit.detail, retry_after_s if limit.passes else None)
        response.force_close()
        return response

    def _host_denied(self, request: web.BaseRequest, host: str, *, own: bool) -> Denial | None:
        """Return why a request is not taken for its host. Probes (`own`) come by address."""
        fields = request.headers.getall("Host", [])
        if denied := bad_host(fields, host, required=request.version >= HttpVersion11):
            return denied
        hosts = self._shared.policy.default.settings.guard.hosts
        if hosts is None or own:
            return None
        return host_denied(hosts, host, () if self._first_hop else request.raw_headers)

    def _path_denied(self, path: str, *, upgrades: bool) -> Denial | None:
        """Return why a request is not taken for its path: where routes differ in the tokens they want."""
        checks = self._shared.checks
        return path_denied(path) if (checks.odd_upgrades if upgrades else checks.odd_requests) else None

    def _origin_denied(self, request: web.BaseRequest, route: Route, host: str) -> Denial | None:
        """Return why a handshake is refused for its origin."""
        guard = route.settings.guard
        if not guard.judges_origins:
            return None
        asked = asked_host(request.raw_headers, host, route.settings.http.trusted_hops)
        fields = request.headers.getall("Origin", [])
        return origin_denied(guard.origins, fields, asked, required=guard.origin_required)

    def _deny(self, why: Denial, found: str) -> web.Response:
        """Answer a request that is not let in: count it, and say it in the log now and then."""
        self._shared.telemetry.metrics.guard_refused(why.name)
        refused = self._shared.quieter.refused(why, self._shared.loop.time())
        if refused is not None:
            told = redact.text(redact.clean(found, _TOLD_BYTES))
            fields = {"reason": why.name, "status": why.status, "found": told, "refused": refused}
            _log.warning("not let in", extra={"fields": fields})
        response = problem(why.status, why.title, why.detail)
        response.force_close()
        return response

    @property
    def _first_hop(self) -> bool:
        """Whether what a request says of proxies before us is not believed, nor passed on."""
        return self._shared.policy.default.settings.http.forwarded == "replace"

    async def _unclear(self, request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
        """Refuse what two servers might read differently, in a version of HTTP that we speak."""
        told = {"client_address": self._client(request), "status": fault.status}
        _log.warning("bad request: %s", fault.detail, extra={"fields": told})
        answer = problem(fault.status, "Request cannot be passed on", fault.detail)
        fields = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        body = answer.body
        assert isinstance(body, bytes)
        refused = ExactResponse(
            fault.status, HTTPStatus(fault.status).phrase, [*fields, (b"Content-Length", b"%d" % len(body))]
        )
        refused.force_close()
        await refused.prepare(request)
        await refused.write_eof(body)
        return refused

    def _client(self, request: web.BaseRequest) -> str:
        """Return the address of whoever sent a request, by the hops that are trusted."""
        hops = self._shared.policy.default.settings.http.trusted_hops
        return client_address(request.raw_headers, request.remote or "", hops)

    def _offer(self, request: web.BaseRequest, target: str, key: bytes, host: str) -> Offer:
        named = host.encode("ascii")
        raw = self._shared.checks.without_spoofed(self._headers(request))
        fields = forwarded(with_host(end_to_end(raw), named), request.remote or "", self._scheme, named)
        offers = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
        return Offer(
            target=target.encode("utf-8", "surrogateescape"),
            key=key,
            headers=tuple(fields),
            subprotocols=tuple(name for part in offers.split(",") if (name := part.strip())),
        )

    def _headers(self, request: web.BaseRequest) -> Sequence[Pair]:
        raw = request.raw_headers
        return without_forwarded(raw) if self._first_hop else raw

    def _facts(self, request: web.BaseRequest, route: Route) -> RequestFacts:
        transport = request.transport
        peername = transport.get_extra_info("peername") if transport is not None else None
        peer, port = peername[:2] if isinstance(peername, tuple) else ("", 0)
        check = self._shared.checks.by_pattern.get(route.pattern)
        return RequestFacts(
            method=request.method,
            target=request.raw_path,
            headers=self._headers(request),
            peer=peer,
            policy=self._shared.policy.name,
            route=route.pattern,
            client=self._client(request),
            peer_port=port,
            scheme=self._scheme,
            token_names=check.parameters if check is not None else frozenset(),
            token_prefixes=check.prefixes if check is not None else (),
        )


def _host(request: web.BaseRequest, authority: bytes | None) -> str:
    """Return what a request is for: its Host, or the authority of its target; "" for neither."""
    if authority is None:
        return request.headers.get("Host", "")
    return authority.decode("utf-8", "surrogateescape")


def _head(request: web.BaseRequest) -> int:
    return head_bytes(request.method, request.raw_path, request.raw_headers)


async def _refuse(request: web.BaseRequest, refusal: Refusal, retry_after_s: int) -> web.StreamResponse:
    """Send the upstream's response as it was, or our own 503."""
    if refusal.response is None:
        return _unavailable(refusal.reason, retry_after_s)
    upstream = refusal.response
    response = ExactResponse(upstream.status, upstream.reason, of_response(upstream.status, upstream.headers))
    response.force_close()
    await response.prepare(request)
    try:
        if upstream.body:
            await response.write(upstream.body)
        if upstream.rest is not None:
            async for part in upstream.rest.iter_any():
                await response.write(part)
    except ClientError:
        response.cut()  # the upstream fell in mid-body: let the client see that it is not whole
    else:
        await response.write_eof()
    return response


def _unavailable(reason: str, retry_after_s: int) -> web.Response:
    response = problem(HTTPStatus.SERVICE_UNAVAILABLE, "Service unavailable", reason, retry_after_s)
    response.force_close()
    return response
