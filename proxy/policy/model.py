"""Every key that a policy file may have, its type and its range.

The defaults stand in `policies/production.yaml`, which every policy is laid over; only what production does
not have (an announcement) has its defaults here. `policies/README.md` explains each key; a test holds the two
together.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, Discriminator, Field, PlainValidator, Tag

from proxy.policy.jwt import Jwt  # noqa: TC001 - pydantic reads the annotation
from proxy.policy.kinds import STRICT, FilePath, LongS, SentCloseCode
from proxy.policy.origins import HOST_FORM, ORIGIN_FORM, checked_host, checked_origin
from proxy.policy.routes import checked_pattern, checked_rewrite

PROVED, FIXED = "<proved>", "<fixed>"

BudgetMs: TypeAlias = Annotated[float, Field(ge=0, le=600_000)]
CloseCode: TypeAlias = Annotated[int, Field(ge=1000, le=4999)]
Status: TypeAlias = Annotated[int, Field(ge=400, le=599)]
HeldBytes: TypeAlias = Annotated[int, Field(ge=1024, le=1 << 30)]
HeaderBytes: TypeAlias = Annotated[int, Field(ge=1024, le=1 << 20)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=10_000_000)]
QuietMs: TypeAlias = Annotated[float, Field(ge=0, le=60_000)]
OnExpiry: TypeAlias = Literal["proceed", "fail"]
JsonPath: TypeAlias = Annotated[
    str, Field(pattern=r"^[^.]+(\.[^.]+)*$", max_length=256, description="names joined by dots")
]
Subprotocol: TypeAlias = Annotated[
    str,
    Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$", description="a subprotocol name (RFC 6455 11.3.4)"),
]
ServerName: TypeAlias = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._:-]{1,253}$", description="a host name or address")
]
PathPattern: TypeAlias = Annotated[str, AfterValidator(checked_pattern), Field(description="a path pattern")]
Rewrite: TypeAlias = Annotated[str, AfterValidator(checked_rewrite), Field(description="a path")]
Origin: TypeAlias = Annotated[str, AfterValidator(checked_origin), Field(description=ORIGIN_FORM)]
Host: TypeAlias = Annotated[str, AfterValidator(checked_host), Field(description=HOST_FORM)]


def _json_scalar(value: object) -> object:
    if isinstance(value, dict | list):
        raise ValueError(_JSON_SCALAR)  # noqa: TRY004 - pydantic reports ValueError
    return value


_JSON_SCALAR = "text, a number, true, false or null"
JsonValue: TypeAlias = Annotated[
    str | bool | int | float | None, PlainValidator(_json_scalar), Field(description=_JSON_SCALAR)
]


class _Keys(BaseModel):
    model_config = STRICT


class FixedDelay(_Keys):
    """Any stage as a plain delay; it proves nothing, so nothing can expire."""

    evidence: Literal["fixed"]
    budget_ms: BudgetMs


class Propagation(_Keys):
    """Our bytes reached the peer's kernel."""

    evidence: Literal["acked"]
    budget_ms: BudgetMs
    on_expiry: OnExpiry


class Validation(_Keys):
    """The peer's WebSocket stack talks both ways."""

    evidence: Literal["pong", "frame"]
    budget_ms: BudgetMs
    on_expiry: OnExpiry


class Stabilization(_Keys):
    """The leg stays up for a learned window."""

    evidence: Literal["quiet"]
    min_ms: BudgetMs
    max_ms: BudgetMs
    memory_s: Annotated[float, Field(ge=0, le=86_400)]


class JsonMessage(_Keys):
    """The message that announces: JSON text with this value at this path."""

    path: JsonPath
    equals: JsonValue


class Announcement(_Keys):
    """The application says that it is ready."""

    evidence: Literal["message"]
    budget_ms: BudgetMs = 2000
    on_expiry: OnExpiry = "proceed"
    json_: JsonMessage | None = Field(default=None, alias="json")


def variant(stage: object) -> str:
    """Tell which of a stage's two kinds its keys mean, however wrong they are otherwise."""
    evidence = stage.get("evidence") if isinstance(stage, dict) else getattr(stage, "evidence", None)
    return FIXED if evidence == "fixed" else PROVED


_Fixed: TypeAlias = Annotated[FixedDelay, Tag(FIXED)]
PropagationStage: TypeAlias = Annotated[Annotated[Propagation, Tag(PROVED)] | _Fixed, Discriminator(variant)]
ValidationStage: TypeAlias = Annotated[Annotated[Validation, Tag(PROVED)] | _Fixed, Discriminator(variant)]
StabilizationStage: TypeAlias = Annotated[
    Annotated[Stabilization, Tag(PROVED)] | _Fixed, Discriminator(variant)
]
AnnouncementStage: TypeAlias = Annotated[
    Annotated[Announcement, Tag(PROVED)] | _Fixed, Discriminator(variant)
]


class Leg(_Keys):
    """The stages of one leg."""

    early_bytes: HeldBytes
    propagation: PropagationStage
    validation: ValidationStage
    stabilization: StabilizationStage
    announcement: AnnouncementStage | None


class Eager(_Keys):
    """What we may agree to before the upstream has spoken."""

    subprotocols: Annotated[list[Subprotocol], Field(max_length=64)]


class Redial(_Keys):
    """When a failed try at the upstream is followed by another."""

    tries: Annotated[int, Field(ge=1, le=1000)]
    base_ms: Annotated[float, Field(ge=1, le=60_000)]
    max_ms: Annotated[float, Field(ge=1, le=60_000)]
    jitter: Annotated[float, Field(ge=0, le=1)]
    statuses: Annotated[list[Status], Field(max_length=64)]
    close_codes: Annotated[list[CloseCode], Field(max_length=64)]


class Handshake(_Keys):
    """From the upgrade request to the open gate."""

    accept: Literal["mirrored", "eager"]
    deadline_s: Annotated[float, Field(ge=0.05, le=3600)]
    retry_after_s: Annotated[int, Field(ge=0, le=86_400)]
    eager: Eager
    client: Leg
    upstream: Leg
    redial: Redial


class Tls(_Keys):
    """How an https upstream is trusted."""

    verify: bool
    ca_file: FilePath | None
    server_name: ServerName | None


class Upstream(_Keys):
    """How the upstream is dialled."""

    connect_timeout_s: Annotated[float, Field(ge=0.01, le=300)]
    tls: Tls


class Http(_Keys):
    """Limits of HTTP."""

    header_deadline_s: Annotated[float, Field(ge=0.1, le=3600)]
    body_idle_s: Annotated[float, Field(ge=0.1, le=86_400)] | None
    keepalive_s: Annotated[float, Field(ge=0, le=86_400)]
    response_timeout_s: Annotated[float, Field(ge=0.1, le=86_400)]
    connections: Annotated[int, Field(ge=1, le=100_000)]
    max_line_bytes: HeaderBytes
    max_field_bytes: HeaderBytes
    max_headers: Annotated[int, Field(ge=16, le=10_000)]
    trusted_hops: Annotated[int, Field(ge=0, le=32)]
    forwarded: Literal["keep", "replace"]


class Guard(_Keys):
    """Who may come in. `hosts` counts for the whole process."""

    origins: Annotated[list[Origin], Field(max_length=256)] | None
    origin_required: bool
    hosts: Annotated[list[Host], Field(max_length=256)] | None
    jwt: Jwt | None


class Session(_Keys):
    """How an open session ends."""

    upstream_lost_code: SentCloseCode
    max_s: LongS | None
    jitter: Annotated[float, Field(ge=0, le=1)]


class Departure(_Keys):
    """How the upstream learns that the client left."""

    enabled: bool
    quiet_ms: QuietMs
    min_ms: QuietMs
    max_ms: QuietMs
    max_s: Annotated[float, Field(ge=0, le=3600)]


class KeepaliveLeg(_Keys):
    """When a silent peer is pinged, and when it is dead."""

    interval_s: LongS | None
    timeout_s: LongS


class Keepalive(_Keys):
    """Whether a silent peer of an open session is still there."""

    client: KeepaliveLeg
    upstream: KeepaliveLeg


class Limits(_Keys):
    """How much is served. Those up to `connections` count for the whole process."""

    sessions: Count | None
    sessions_per_client: Count | None
    handshakes_pending: Count | None
    early_bytes_total: Annotated[int, Field(ge=1024, le=1 << 40)]
    header_bytes: Annotated[int, Field(ge=1024, le=1 << 24)]
    connections: Count | None
    message_bytes: Annotated[int, Field(ge=1024, le=1 << 40)] | None
    messages_per_s: Annotated[float, Field(ge=0.1, le=1_000_000)] | None
    idle_s: LongS | None


class Drain(_Keys):
    """How the gate itself stops."""

    spread_s: Annotated[float, Field(ge=0, le=3600)]
    grace_s: Annotated[float, Field(ge=2, le=3600)]


class Route(_Keys):
    """A path with what differs there. The overrides are checked when they have been laid over the rest."""

    path: PathPattern
    rewrite: Rewrite | None = None
    handshake: dict[str, Any] = {}
    upstream: dict[str, Any] = {}
    guard: dict[str, Any] = {}
    session: dict[str, Any] = {}
    departure: dict[str, Any] = {}
    keepalive: dict[str, Any] = {}
    limits: dict[str, Any] = {}


class Document(_Keys):
    """A whole policy file, laid over those it extends."""

    extends: Annotated[str, Field(description="a preset or the path of a policy file")] | None = None
    handshake: Handshake
    upstream: Upstream
    http: Http
    guard: Guard
    session: Session
    departure: Departure
    keepalive: Keepalive
    limits: Limits
    drain: Drain
    routes: Annotated[list[Route], Field(max_length=1000)] = []
