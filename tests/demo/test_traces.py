"""Traces as the demo shows them, made of lines as rotel 0.1 prints them."""

from __future__ import annotations

from proxy.demo.traces import Reader

PRINTED = """\
ResourceSpans #0
Resource attributes:
     -> service.name: Str(readygate)
ScopeSpans #0
InstrumentationScope readygate 0.1.0
Span #0
    Trace ID       : bc856b7e958f4829a22f46838f60efa6
    Parent ID      : bebb1453d1fd498e
    ID             : d014ea79d4b03b8f
    Name           : upstream.upgrade
    Kind           : SPAN_KIND_CLIENT
Start time: 1795687658055000000
End time: 1795687658060000000
    Status code    : STATUS_CODE_ERROR
    Status message :
Attributes:
     -> readygate.attempt: Int(2)
     -> http.response.status_code: Int(500)
     -> error.type: Str(500)
Span #1
    Trace ID       : bc856b7e958f4829a22f46838f60efa6
    Parent ID      : bebb1453d1fd498e
    ID             : d014ea79d4b03b90
    Name           : client.validation
    Kind           : SPAN_KIND_INTERNAL
Start time: 1795687658052000000
End time: 1795687658053500000
    Status code    : STATUS_CODE_UNSET
    Status message :
Attributes:
     -> readygate.evidence: Str(pong)
     -> readygate.budget_ms: Double(75)
     -> readygate.stage.outcome: Str(proved)
     -> readygate.attempt: Int(1)
Events:
SpanEvent #0
     -> Name: ping
     -> Timestamp: 1795687658052000000
     -> DroppedAttributesCount: 0
SpanEvent #1
     -> Name: pong
     -> Timestamp: 1795687658053500000
     -> DroppedAttributesCount: 0
Span #2
    Trace ID       : bc856b7e958f4829a22f46838f60efa6
    Parent ID      :
    ID             : bebb1453d1fd498e
    Name           : websocket.handshake
    Kind           : SPAN_KIND_SERVER
Start time: 1795687658050000000
End time: 1795687658066000000
    Status code    : STATUS_CODE_UNSET
    Status message :
Attributes:
     -> url.path: Str(/ws/chat)
     -> readygate.route: Str(*)
     -> readygate.outcome: Str(ready)
     -> readygate.redials: Int(2)
     -> readygate.early.client.bytes: Int(0)
     -> readygate.redial.causes: Slice(Str(status_500), Str(lost))
Links:
SpanLink #0
     -> Trace ID: 6e366c91d55ec1c17bf0180f364bf798
     -> ID: 15c736bc9cbd133c
     -> TraceState:
     -> DroppedAttributesCount: 0
"""
SHOWN = """\
websocket.handshake  16.00 ms  /ws/chat  ready  trace bc856b7e958f4829a22f46838f60efa6
    linked with trace 6e366c91d55ec1c17bf0180f364bf798
    route=* redials=2 redial.causes=status_500,lost
        at ms   took ms
         2.00      1.50      ###                           client.validation       proved pong (ping, pong)
         5.00      5.00            ##########              upstream.upgrade        try 2 error 500
"""


def test_a_trace_is_told_when_its_root_is_whole_with_its_steps_in_the_order_in_which_they_began():
    reader = Reader()
    assert [reader.take(line) for line in PRINTED.splitlines()] == [None] * len(PRINTED.splitlines())
    assert reader.end() == SHOWN
    assert reader.end() is None


def test_the_next_batch_ends_the_last_span():
    reader = Reader()
    told = [trace for line in (PRINTED + PRINTED).splitlines() if (trace := reader.take(line))]
    assert told == [SHOWN]
