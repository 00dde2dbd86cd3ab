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
            await traces.until_a_session_is_shown()
            child = traces._child
        return said, child._process.returncode

    said, code = run(main())
    names = {line.partition(":")[2].strip() for line in said if line.strip().startswith("Name  ")}
    assert {"websocket.handshake", "upstream.connect", "client.validation", "websocket.session"} <= names
    assert code is not None


def test_without_rotel_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(command, "installed", lambda: False)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(["--otlp"])) == 3
    assert capsys.readouterr().err == (
        "readygate demo: rotel missing; install them with: pip install 'readygate[demo,demo-otlp]'\n"
    )
