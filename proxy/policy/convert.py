"""From the validated model to the frozen settings that the gate runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.core.departure import DeparturePlan
from proxy.core.keepalive import KeepalivePlan
from proxy.core.plan import (
    Accept,
    Evidence,
    HandshakePlan,
    JsonMatch,
    LegPlan,
    OnExpiry,
    RedialPlan,
    Role,
    StagePlan,
    WindowPlan,
)
from proxy.policy import model
from proxy.policy.settings import (
    DrainSettings,
    GuardSettings,
    HttpSettings,
    JwksSettings,
    JwtSettings,
    KeySource,
    LimitSettings,
    SessionSettings,
    Settings,
    TlsSettings,
    TokenSource,
    UpstreamSettings,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    from proxy.policy.jwt import Jwt

    _Budgeted: TypeAlias = model.FixedDelay | model.Propagation | model.Validation | model.Announcement


def to_settings(document: model.Document) -> Settings:
    """Convert one route's effective document. Lists that are sets lose their order and doubles here."""
    tls = document.upstream.tls
    return Settings(
        handshake=_handshake(document),
        retry_after_s=document.handshake.retry_after_s,
        upstream=UpstreamSettings(
            document.upstream.connect_timeout_s, TlsSettings(tls.verify, tls.ca_file, tls.server_name)
        ),
        http=HttpSettings(**document.http.model_dump()),
        guard=_guard(document.guard),
        session=SessionSettings(**document.session.model_dump()),
        departure=_departure(document.departure),
        keepalive={role: _keepalive(getattr(document.keepalive, role)) for role in Role},
        limits=LimitSettings(**document.limits.model_dump()),
        drain=DrainSettings(**document.drain.model_dump()),
    )


def _handshake(document: model.Document) -> HandshakePlan:
    handshake = document.handshake
    redial = handshake.redial
    return HandshakePlan(
        accept=Accept(handshake.accept),
        deadline_ms=handshake.deadline_s * 1000,
        client=_leg(handshake.client),
        upstream=_leg(handshake.upstream),
        redial=RedialPlan(
            redial.tries,
            redial.base_ms,
            redial.max_ms,
            redial.jitter,
            frozenset(redial.statuses),
            frozenset(redial.close_codes),
        ),
        eager_subprotocols=tuple(handshake.eager.subprotocols),
        lost_code=document.session.upstream_lost_code,
        message_bytes=document.limits.message_bytes,
    )


def _guard(guard: model.Guard) -> GuardSettings:
    return GuardSettings(
        origins=None if guard.origins is None else frozenset(guard.origins),
        origin_required=guard.origin_required,
        hosts=None if guard.hosts is None else frozenset(guard.hosts),
        jwt=None if guard.jwt is None else _jwt(guard.jwt),
    )


def _departure(departure: model.Departure) -> DeparturePlan:
    return DeparturePlan(
        enabled=departure.enabled,
        quiet_ms=departure.quiet_ms,
        min_ms=departure.min_ms,
        max_ms=departure.max_ms,
        longest_ms=departure.max_s * 1000,
    )


def _keepalive(leg: model.KeepaliveLeg) -> KeepalivePlan:
    interval_ms = None if leg.interval_s is None else leg.interval_s * 1000
    return KeepalivePlan(interval_ms, leg.timeout_s * 1000)


def _jwt(jwt: Jwt) -> JwtSettings:
    return JwtSettings(
        sources=tuple(
            TokenSource(each.from_, each.name or "", each.prefix or "", each.encoding == "base64url")
            for each in jwt.sources
        ),
        algorithms=tuple(dict.fromkeys(jwt.algorithms)),
        keys=tuple(
            KeySource(each.kind == "secret", each.file, each.env, each.encoding == "base64", each.kid)
            for each in jwt.keys
        ),
        jwks=None if jwt.jwks is None else JwksSettings(**jwt.jwks.model_dump()),
        audience=tuple(jwt.audience),
        issuer=tuple(jwt.issuer),
        leeway_s=jwt.leeway_s,
        required=tuple(jwt.required),
        max_bytes=jwt.max_bytes,
        http=jwt.http,
        close_code=jwt.close_code if jwt.on_failure == "close" else None,
        expiry_code=jwt.expiry_code if jwt.close_at_expiry else None,
        claims_to_headers=tuple(jwt.claims_to_headers.items()),
    )


def _leg(leg: model.Leg) -> LegPlan:
    window = leg.stabilization
    announcement = leg.announcement
    match = announcement.json_ if isinstance(announcement, model.Announcement) else None
    return LegPlan(
        propagation=_stage(leg.propagation),
        validation=_stage(leg.validation),
        stabilization=WindowPlan(window.min_ms, window.max_ms, window.memory_s)
        if isinstance(window, model.Stabilization)
        else _stage(window),
        announcement=_stage(announcement) if announcement else None,
        match=JsonMatch(tuple(match.path.split(".")), match.equals) if match else None,
        early_bytes=leg.early_bytes,
    )


def _stage(stage: _Budgeted) -> StagePlan:
    on_expiry = OnExpiry.PROCEED if isinstance(stage, model.FixedDelay) else OnExpiry(stage.on_expiry)
    return StagePlan(Evidence(stage.evidence), stage.budget_ms, on_expiry)
