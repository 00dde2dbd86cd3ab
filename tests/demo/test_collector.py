"""The collector of the demo: a real rotel, fed by a real gate."""

from __future__ import annotations

import argparse

from proxy.demo import command, faults
from proxy.demo.collector import collector
from proxy.demo.stage import Stage


def test_the_traces_of_a_client_are_printed_and_nothing_is_left_running(run):
    async def main():
        said: list[str] = []
        async with collector() as traces, Stage("testing", environment=traces.environment) as stage:
            await stage.sessions.up()
            await stage.start_backend()
            traces.show(said.append)
            await faults.visit(stage)
            await traces.until_sessions_are_shown(1)
            await faults.visit_too_soon(stage)
            await traces.until_sessions_are_shown(2)
            child = traces._child
        return said, child._process.returncode

    said, code = run(main())
    good, session, redialled, _ = said
    assert good.startswith("websocket.handshake  ")
    assert "/ws/chat  ready  trace " in good
    steps = [line.split() for line in good.splitlines() if line.startswith("     ")]
    assert [step[-1] for step in steps if "upstream.upgrade" in step] == ["101"]
    assert any("client.stabilization" in step and step[-2:] == ["proved", "quiet"] for step in steps)
    trace_id = good.splitlines()[0].rpartition(" ")[2]
    assert session.startswith("websocket.session  ")
    assert f"linked with trace {trace_id}" in session
    assert "redial.causes=status_500" in redialled
    assert "try 2" in redialled
    assert "error 500" in redialled
    assert code is not None


def test_without_rotel_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(command, "installed", lambda: False)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(["--otlp"])) == 3
    assert capsys.readouterr().err == (
        "readygate demo: rotel missing; install them with: pip install 'readygate[demo,demo-otlp]'\n"
    )
