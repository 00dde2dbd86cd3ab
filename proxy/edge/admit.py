"""Letting a request in by its token, or answering the one that has none: by a status, or by a Close."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from proxy.core.report import HandshakeReport, Outcome
from proxy.edge.farewell import Farewell, agreeable
from proxy.edge.problem import problem
from proxy.edge.shared import now_ms
from proxy.edge.takeover import TakenOver
from proxy.guard import Denial, Reason, RefusedError, answer_to

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.edge.check import Check
    from proxy.edge.headers import Pair
    from proxy.edge.shared import Shared
    from proxy.edge.switching import Offer
    from proxy.edge.watch import Expiry
    from proxy.telemetry.traces import HandshakeTrace

_log = logging.getLogger("readygate.auth")
_SWITCHING: Final = 101
NO_CLAIMS: Final[tuple[Pair, ...]] = ()


async def claims_of(check: Check, request: web.BaseRequest, target: str) -> tuple[Pair, ...]:
    """Check the token of a plain HTTP request for `target`; return the fields that its claims make.

    Raise RefusedError.
    """
    query = target.partition("?")[2]
    return (await check.admit(request.raw_headers, query, request.transport)).fields


async def authenticate(
    check: Check, request: web.BaseRequest, offer: Offer, trace: HandshakeTrace
) -> tuple[Offer, Expiry | None]:
    """Check an upgrade request's token; return the offer with its claims, and when it ends the session.

    Raise RefusedError.
    """
    began_ms, query = now_ms(), offer.target.partition(b"?")[2].decode("utf-8", "surrogateescape")
    try:
        admitted = await check.admit(request.raw_headers, query, request.transport)
    except RefusedError as error:
        trace.auth_ended(began_ms, now_ms(), error.source, error.algorithm, error.reason)
        raise
    trace.auth_ended(began_ms, now_ms(), admitted.source, admitted.algorithm, Reason.ACCEPTED)
    expiry, code = None, check.settings.expiry_code
    if code is not None and admitted.expires_s is not None:
        expiry = (now_ms() + (admitted.expires_s - time.time()) * 1000, code)
    return replace(offer, headers=(*offer.headers, *admitted.fields)), expiry


def turn_down(
    shared: Shared,
    check: Check,
    request: web.BaseRequest,
    offer: Offer,
    trace: HandshakeTrace,
    reason: Reason,
    retry_after_s: int,
) -> web.StreamResponse:
    """Answer an upgrade request without a good token as the policy says: by a status, or by a Close."""
    answer, configured = answer_to(reason), check.settings.close_code
    if configured is None:
        trace.finish(HandshakeReport(Outcome.REJECTED, answer.status, (), (), auth=reason), now_ms())
        return refuse_token(shared, reason, retry_after_s)
    code = answer.close_code(configured)
    farewell = Farewell(request, offer, agreeable(offer.subprotocols, check.prefixes))
    farewell.say(answer.message, code, answer.detail)
    report = HandshakeReport(Outcome.REJECTED, _SWITCHING, (), (), close_code=code, auth=reason)
    trace.finish(report, now_ms())
    _note(shared, reason)
    return TakenOver()


def refuse_token(shared: Shared, reason: Reason, retry_after_s: int) -> web.Response:
    """Return the status for a request without a good token: RFC 6750 section 3, with a problem document."""
    _note(shared, reason)
    answer = answer_to(reason)
    headers = [("WWW-Authenticate", answer.challenge)] if answer.challenge else []
    wait_s = retry_after_s if answer.passes else None
    response = problem(answer.status, answer.title, answer.detail, wait_s, headers)
    response.force_close()
    return response


def _note(shared: Shared, reason: Reason) -> None:
    """Count it, and say it in the log now and then."""
    shared.telemetry.metrics.auth_failed(reason)
    answer = answer_to(reason)
    why = Denial(f"token.{reason}", answer.status, answer.title, answer.detail)
    refused = shared.quieter.refused(why, shared.loop.time())
    if refused is not None:
        _log.warning("token refused", extra={"fields": {"reason": reason.value, "refused": refused}})
