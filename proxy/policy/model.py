"""Every key that a policy file may have, its type and its range.

The defaults stand in `policies/production.yaml`, which every policy is laid over; only what production does
not have (an announcement) has its defaults here. The text below a key is what docs/configuration.md says of
it: `make docs` writes that page from this file. Links in it are relative to docs/.
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
    """A plain delay of `budget_ms`, in place of any proof."""

    budget_ms: BudgetMs
    """`fixed` only: the delay. 0 skips the stage."""


class Propagation(_Keys):
    """Our bytes reached the peer's kernel."""

    evidence: Literal["acked"]
    """What proves that our 101 (or request) arrived: `acked`, the peer's kernel has it (nothing left in our
    send queue; Linux tells), or any byte from the peer.
    """

    budget_ms: BudgetMs
    """Longest wait for it. 0 skips the stage."""

    on_expiry: OnExpiry
    """Without evidence in time: `proceed` (outcome `ready_unproven`) or `fail`. Not with `fixed`."""


class Validation(_Keys):
    """The peer's WebSocket stack talks both ways."""

    evidence: Literal["pong", "frame"]
    """What proves that the WebSocket stack talks both ways: `pong`, the answer to a ping that the gate sends
    (any frame does too); `frame`, any frame, no ping is sent.
    """

    budget_ms: BudgetMs
    """Longest wait for it. 0 skips the stage."""

    on_expiry: OnExpiry
    """Without evidence in time: `proceed` (outcome `ready_unproven`) or `fail`."""


class Stabilization(_Keys):
    """The leg stays up for a learned window."""

    evidence: Literal["quiet"]
    """What proves that the leg stays up: `quiet`, no Close, end or reset for a window that is learned from
    recent early losses.
    """

    min_ms: BudgetMs
    """`quiet`: the window while no leg of this route was lost early. An upstream leg starts at `max_ms` and
    comes down to it after 20 in a row that stayed up; 0: its pong is proof enough then.
    """

    max_ms: BudgetMs
    """`quiet`: the longest window, which one early loss brings about at once; 20 losses are enough to fit it
    to the times at which they came.
    """

    memory_s: Annotated[float, Field(ge=0, le=86_400)]
    """`quiet`: how long a loss counts."""


class JsonMessage(_Keys):
    """The message that announces: JSON text with this value at this path."""

    path: JsonPath
    """Where to look in a JSON text message, outermost name first: `data.event`."""

    equals: JsonValue
    """What must stand there."""


class Announcement(_Keys):
    """The application says that it is ready."""

    evidence: Literal["message"]
    """`message`: the first message, or the first that `json` describes. It is held and forwarded like any
    other.
    """

    budget_ms: BudgetMs = 2000
    """Longest wait for it. 0 skips the stage."""

    on_expiry: OnExpiry = "proceed"
    """Without evidence in time: `proceed` (outcome `ready_unproven`) or `fail`."""

    json_: JsonMessage | None = Field(default=None, alias="json")
    """Which message announces. `null`: the first, whatever it says."""


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
    """How much of what a leg says too early is held. At the bound its socket is not read any more; nothing is
    dropped.
    """

    propagation: PropagationStage
    validation: ValidationStage
    stabilization: StabilizationStage
    announcement: AnnouncementStage | None
    """Optional stage: wait until the application says that it is ready. `null`: there is none."""


class Eager(_Keys):
    """What we may agree to before the upstream has spoken."""

    subprotocols: Annotated[list[Subprotocol], Field(max_length=64)]
    """With `accept: eager`: the subprotocols that the gate may agree to without asking the upstream. The
    client's first offer that is listed wins.
    """


class Redial(_Keys):
    """When a failed try at the upstream is followed by another."""

    tries: Annotated[int, Field(ge=1, le=1000)]
    """Attempts that reached the upstream. A refused connection does not count; the deadline ends those. 1: no
    redial.
    """

    base_ms: Annotated[float, Field(ge=1, le=60_000)]
    """Pause before the first redial; it doubles with each."""

    max_ms: Annotated[float, Field(ge=1, le=60_000)]
    """Longest pause."""

    jitter: Annotated[float, Field(ge=0, le=1)]
    """How much of a pause is random: 0.5 is ± 50 %."""

    statuses: Annotated[list[Status], Field(max_length=64)]
    """HTTP answers to the upgrade that are tried again. The last is passed to the client when tries run out.
    """

    close_codes: Annotated[list[CloseCode], Field(max_length=64)]
    """Close codes in a stage that are tried again. 1006 is a loss without Close. Others are the backend's own
    answer.
    """


class Handshake(_Keys):
    """From the upgrade request to the open gate."""

    accept: Literal["mirrored", "eager"]
    """`mirrored`: the client gets its 101 (or the rejection) from the upstream, after that proved ready.
    `eager`: 101 at once, for long cold starts; a failure then ends as a Close code.
    """

    deadline_s: Annotated[float, Field(ge=0.05, le=3600)]
    """Longest time from the upgrade request to the open gate, redials included. Then 503 (`mirrored`) or
    Close 1013 (`eager`).
    """

    retry_after_s: Annotated[int, Field(ge=0, le=86_400)]
    """`Retry-After` of the gate's own 503s."""

    eager: Eager
    client: Leg
    upstream: Leg
    redial: Redial


class Tls(_Keys):
    """How an https upstream is trusted."""

    verify: bool
    """Whether an `https` upstream must show a valid certificate."""

    ca_file: FilePath | None
    """PEM file of the authorities to trust, relative to the policy file. `null`: the system's."""

    server_name: ServerName | None
    """Name to ask for (SNI) and to check. `null`: the upstream's host."""


class Upstream(_Keys):
    """How the upstream is dialled."""

    connect_timeout_s: Annotated[float, Field(ge=0.01, le=300)]
    """Longest time for one TCP (and TLS) connection."""

    tls: Tls


class Http(_Keys):
    """Limits of HTTP."""

    header_deadline_s: Annotated[float, Field(ge=0.1, le=3600)]
    """A client must have sent its request head by then."""

    body_idle_s: Annotated[float, Field(ge=0.1, le=86_400)] | None
    """Plain HTTP: longest silence of a client in the midst of its request's body, then 408; and longest time
    in which it takes nothing of a response that waits for it, then its connection is reset. A response for
    which the upstream has nothing to say (an event stream) may be silent for any time. `null`: any time.
    """

    keepalive_s: Annotated[float, Field(ge=0, le=86_400)]
    """How long an idle client connection is kept."""

    response_timeout_s: Annotated[float, Field(ge=0.1, le=86_400)]
    """Plain HTTP: longest silence of the upstream."""

    connections: Annotated[int, Field(ge=1, le=100_000)]
    """Plain HTTP: most connections to the upstream."""

    max_line_bytes: HeaderBytes
    """Longest request line."""

    max_field_bytes: HeaderBytes
    """Longest header field."""

    max_headers: Annotated[int, Field(ge=16, le=10_000)]
    """Most header fields."""

    trusted_hops: Annotated[int, Field(ge=0, le=32)]
    """How many proxies of your own stand before the gate. Who the client is, is then the n-th address of
    `X-Forwarded-For` from the right, the leftmost if there are fewer. 0: the other end of the connection,
    whatever the header says. Cloud Run or one load balancer: 1.
    """

    forwarded: Literal["keep", "replace"]
    """What a request says of proxies before the gate (`Forwarded`, `X-Real-IP`, all `X-Forwarded-…`). `keep`:
    the gate adds to `X-Forwarded-For`, and sets `-Proto` and `-Host` where they are missing. `replace`: all
    of it is removed first, also with `_` for `-`. Right where clients reach the gate directly; not with
    `http.trusted_hops`.
    """


class Guard(_Keys):
    """Who may come in. `hosts` counts for the whole process."""

    origins: Annotated[list[Origin], Field(max_length=256)] | None
    """Which pages may open a WebSocket. `*.` in front stands for one or more labels; `same`: the host is the
    one that the client asked for; `"null"` (in quotes) are sandboxed frames and local files. Others get 403.
    `null`: any page. See [who may come in](concepts.md#who-may-come-in).
    """

    origin_required: bool
    """Whether an upgrade without `Origin` is refused. Browsers always send one, other programs seldom."""

    hosts: Annotated[list[Host], Field(max_length=256)] | None
    """For which hosts requests are taken, plain HTTP too; without a port: on any. An `X-Forwarded-Host` that
    is passed on has to be listed as well. Others get 421. Paths under `/_readygate/` are taken for any host.
    `null`: any.
    """

    jwt: Jwt | None
    """JSON Web Tokens that are checked before the upstream is asked; see
    [authentication](authentication.md). `null`: nothing is checked here, and what clients send passes
    unchanged.
    """


class Session(_Keys):
    """How an open session ends."""

    upstream_lost_code: SentCloseCode
    """Close code for the client when the upstream is lost without one, is found dead, or says too long a
    message. Only codes that may be sent (RFC 6455 section 7.4.1).
    """

    max_s: LongS | None
    """Greatest age of a session, from its upgrade request. Then it ends as in a drain: the client gets Close
    1012, the upstream 1001 when it is quiet. `null`: any age.
    """

    jitter: Annotated[float, Field(ge=0, le=1)]
    """How much earlier than `max_s` a session may end, at random: 0.1 is up to 10 %."""


class Departure(_Keys):
    """How the upstream learns that the client left."""

    enabled: bool
    """Whether the upstream hears that the client left only when it is quiet: nothing from it, and nothing of
    the client's still on its way to it. `false`: at once. The client never waits for either.
    """

    quiet_ms: QuietMs
    """How long the upstream has to be quiet, while little is known of the route (at most `max_ms`). The quiet
    time is learned: 3 times the 99th percentile of the last 256 times that were taken on the route, from a
    client's message to what the upstream says next and between two messages of the upstream. Until there are
    20 it is not shorter than this. An upstream that answers pings has to answer one then, and stay silent.
    """

    min_ms: QuietMs
    """Shortest quiet time that may be learned."""

    max_ms: QuietMs
    """Longest quiet time."""

    max_s: Annotated[float, Field(ge=0, le=3600)]
    """The upstream hears it at the latest this long after the client left, quiet or not, its ping answered or
    not. What it says until then is read and discarded.
    """


class KeepaliveLeg(_Keys):
    """When a silent peer is pinged, and when it is dead."""

    interval_s: LongS | None
    """A leg that has been silent for this long is pinged, between two frames. The answer is cut out of the
    stream; the endpoints' own pings and pongs pass. `null`: neither pings nor an end after `timeout_s`.
    """

    timeout_s: LongS
    """A leg that gives no sign of life for this long is dead: a client departs, and for an upstream the
    client gets `session.upstream_lost_code`. Whatever a peer says is a sign of life, and so is that it takes
    what is written to it: a slow reader is not a dead one, nor is a leg that the gate itself does not read
    now. A peer that has never answered a ping is asked no more than that its kernel acknowledges ours.
    """


class Keepalive(_Keys):
    """Whether a silent peer of an open session is still there."""

    client: KeepaliveLeg
    upstream: KeepaliveLeg


class Limits(_Keys):
    """How much is served. Those up to `connections` count for the whole process."""

    sessions: Count | None
    """Process: most sessions, those that are being opened or closed included. One more gets 503. `null`: as
    many as there are file descriptors for, which is the bound in any case.
    """

    sessions_per_client: Count | None
    """Process: most sessions of one client address (see `http.trusted_hops`). One more gets 429. `null`: no
    limit.
    """

    handshakes_pending: Count | None
    """Process: most handshakes under way. One more gets 503. `null`: no limit."""

    early_bytes_total: Annotated[int, Field(ge=1024, le=1 << 40)]
    """Process: how much may be held of what all legs say too early. While as much is held, a new session gets
    503; those begun go on, each up to its own `early_bytes`.
    """

    header_bytes: Annotated[int, Field(ge=1024, le=1 << 24)]
    """Process: longest head of a request, plain HTTP too, all its lines together. A longer one gets 431."""

    connections: Count | None
    """Process: most client connections that are no session: those that wait for a request, and plain HTTP
    under way. One more ends the one that has waited longest; if none waits, itself. `null`: as many as
    sessions leave descriptors for, which is the bound in any case.
    """

    message_bytes: Annotated[int, Field(ge=1024, le=1 << 40)] | None
    """Longest message of either leg, as it is on the wire, its frames together. The frame that makes it
    longer is not passed on; its sender gets Close 1009. `null`: the endpoints' own limits decide.
    """

    messages_per_s: Annotated[float, Field(ge=0.1, le=1_000_000)] | None
    """How many messages a client may say in a second, and as many at once. More are not dropped: its socket
    is not read for a while. `null`: no limit.
    """

    idle_s: LongS | None
    """A session in which nothing passed for this long, either way, ends with Close 1001. The gate's own pings
    do not count, the endpoints' do. `null`: never.
    """


class Drain(_Keys):
    """How the gate itself stops."""

    spread_s: Annotated[float, Field(ge=0, le=3600)]
    """When the gate stops: over what time its open sessions get Close 1012, each at a random moment, so that
    not all come back at once. 0: all at once. Handshakes under way are refused at once.
    """

    grace_s: Annotated[float, Field(ge=2, le=3600)]
    """When the gate stops: after what time everything is over. What has not ended by itself 1.5 s before that
    is cut; the rest is for telemetry. Keep it below what the platform waits before it kills.
    """


class Route(_Keys):
    """A path with what differs there. The overrides are checked when they have been laid over the rest."""

    path: PathPattern
    """Which paths. See [routes](../policies/README.md#routes)."""

    rewrite: Rewrite | None = None
    """What the upstream is asked for instead."""

    handshake: dict[str, Any] = {}
    """What differs from `handshake` above."""

    upstream: dict[str, Any] = {}
    """What differs from `upstream` above: `connect_timeout_s`. `tls` is the same for all routes."""

    guard: dict[str, Any] = {}
    """What differs from `guard` above: `origins`, `origin_required`, `jwt`. `hosts` is the same for all
    routes.
    """

    session: dict[str, Any] = {}
    """What differs from `session` above."""

    departure: dict[str, Any] = {}
    """What differs from `departure` above."""

    keepalive: dict[str, Any] = {}
    """What differs from `keepalive` above."""

    limits: dict[str, Any] = {}
    """What differs from `limits` above: `message_bytes`, `messages_per_s`, `idle_s`. The others are for the
    whole process.
    """


class Document(_Keys):
    """A whole policy file, laid over those it extends."""

    extends: Annotated[str, Field(description="a preset or the path of a policy file")] | None = None
    """The policy that this one is laid over: a preset's name, or a path relative to this file. Left out:
    `production`.
    """

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
    """Overrides by path, in order."""
