"""The documentation says what the code does: flags, spans, attributes, metrics, log fields, paths, links."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import textwrap
from itertools import product
from pathlib import Path

import pytest

from proxy import cli
from proxy.admin import access, files
from proxy.core.plan import Role, Stage
from proxy.core.report import Outcome, StageOutcome
from proxy.guard import denial, heads, limits, paths, refusal
from proxy.policy import keys, load
from proxy.telemetry import DepartureFacts, SessionReport, summary
from tests.differential.allowed import OWN, REQUEST_RULES, RESPONSE_RULES
from tests.docs import configuration
from tests.telemetry.reports import Held, Recorded, closed, open_session, report, request, stage, telemetry

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
HTTP = ROOT / "docs" / "http.md"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "policies/*.md", "deploy/**/*.md")
    for page in ROOT.glob(pattern)
)
ROOMS = ("proxy", "policies", "deploy", "docs", "tests", ".ci")
NOT_FLAGS_OF_OURS = {"--help"}
DEMO_POLICY = "production with one announcement"
# Set by the supervisor for its workers, not by users.
INTERNAL = re.compile(r"READYGATE_WORKER(_|$)")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def section(page: Path, heading: str) -> str:
    """The text under a heading, up to the next one of the same or a higher level."""
    text = prose(page.read_text())
    match = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert match, f"{page_id(page)} has no heading {heading!r}"
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def prose(text: str) -> str:
    """The text without code blocks; their lines are left empty."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows, heads and rules left out."""
    tables = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif tables[-1]:
            tables.append([])
    return [row for table in tables for row in table[2:]]


def words(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`\n]+)`", text)


# -- the command line ---------------------------------------------------------------------------------------


def flags(command: str) -> dict[str, argparse.Action]:
    """The flags of a command as its own parser has them, by the name that documentation uses."""
    parser = cli._parser(command, {})
    commands = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return {
        name: action
        for action in commands.choices[command]._actions
        for name in action.option_strings
        if name not in {"-h", "--help"}
    }


def test_every_command_has_its_section():
    assert set(re.findall(r"^### readygate (\w+)$", REFERENCE.read_text(), re.MULTILINE)) == set(
        cli._COMMANDS
    )


def test_the_configuration_page_is_what_make_docs_writes():
    told = configuration.PAGE.read_text()
    assert told == configuration.page(), "docs/configuration.md is out of step: run `make docs`"


@pytest.mark.parametrize("command", list(cli._COMMANDS))
def test_the_configuration_page_lists_exactly_the_flags_of_each_command(command: str):
    _, table = configuration.command_flags(command)
    assert {word for row in table for word in words(row[0]) if word.startswith("-")} == set(flags(command))


@pytest.mark.parametrize("command", ["run", "health", "probe", "demo"])
def test_the_help_of_each_flag_ends_in_the_default_that_the_parser_has(command: str):
    known = flags(command)
    for row in configuration.command_flags(command)[1]:
        default = known[words(row[0])[0]].default
        if isinstance(default, int | float | str) and not isinstance(default, bool) and default:
            assert row[-2] in {
                str(default),
                f"{default:g}" if isinstance(default, float) else "",
                DEMO_POLICY,
            }


def test_every_flag_of_run_has_the_environment_variable_that_its_help_names():
    for row in configuration.command_flags("run")[1]:
        flag, variable = words(row[0])[0], words(row[1])[0]
        parser = cli._parser("run", {variable: "told"})
        told = vars(parser.parse_args(["run"]))[flag.removeprefix("--").replace("-", "_")]
        assert told == "told", f"{variable} does not set {flag}"


def test_every_variable_of_ours_that_the_code_reads_is_in_the_reference_or_the_configuration():
    read = set()
    for file in (ROOT / "proxy").rglob("*.py"):
        read |= set(re.findall(r"READYGATE_[A-Z_]+[A-Z]", file.read_text()))
    read |= {"READYGATE_" + flag.removeprefix("--").replace("-", "_").upper() for flag in flags("run")}
    told = REFERENCE.read_text() + configuration.PAGE.read_text()
    known = set(re.findall(r"READYGATE_[A-Z_]+[A-Z]", told))
    assert {name for name in read if not INTERNAL.match(name)} == known


@each_page
def test_flags_that_documentation_names_beside_readygate_exist(page: Path):
    for line in page.read_text().splitlines():
        for command, rest in re.findall(r"readygate (run|check|health|probe|demo)\b([^`|#]*)", line):
            used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", rest))
            assert used <= set(flags(command)) | NOT_FLAGS_OF_OURS, line


# -- endpoints ----------------------------------------------------------------------------------------------


def test_the_reference_lists_exactly_the_admin_endpoints():
    told = {word for row in rows(section(REFERENCE, "Admin port")) for word in words(row[0])}
    assert told == set(files.ENDPOINTS) | {"/"}


# -- spans, attributes, metrics, log fields -----------------------------------------------------------------


def constants(file: Path) -> set[str]:
    """All string constants of a Python file that stand alone, docstrings left out."""
    tree = ast.parse(file.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    }


def test_the_reference_lists_exactly_the_spans_of_the_code():
    named = {
        name
        for file in ("traces", "session_trace")
        for name in constants(ROOT / f"proxy/telemetry/{file}.py")
        if re.fullmatch(r"(websocket|upstream|client|gate|guard)\.[a-z]+", name)
    }
    stages = {f"{role}.{stage}" for role, stage in product(Role, Stage)}
    table = section(REFERENCE, "Spans").partition("\n### ")[0]
    assert {word for row in rows(table) for word in words(row[0])} == named | stages


def test_kinds_and_parents_of_spans_are_as_the_reference_says():
    recorded = Recorded()
    _, session, _ = open_session(recorded.telemetry)
    session.finish(closed(), 1_000_020.0)
    spans = recorded.spans()
    handshake = spans["websocket.handshake"].context.span_id
    table = section(REFERENCE, "Spans").partition("\n### ")[0]
    seen = set()
    for names, kind, parent, _ in rows(table):
        for name in words(names):
            if name in spans:
                seen.add(name)
                assert spans[name].kind.name == kind, name
                has_parent = spans[name].parent is not None and spans[name].parent.span_id == handshake
                assert has_parent == (parent == "`websocket.handshake`"), name
    assert seen == set(spans)


def handshake_and_session() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Every attribute by span, every log field by line, of sessions that use all of them."""
    told: dict[str, set[str]] = {}
    recorded = Recorded()
    facts = request("/ws?token=1", [(b"Sec-WebSocket-Protocol", b"chat")])
    _, session, _ = open_session(recorded.telemetry, facts)
    session.finish(whole_session(), 1_000_020.0)
    failed = recorded.telemetry.handshake(facts, 1_000_000.0)
    failed.auth_ended(1_000_000.0, 1_000_000.5, "cookie", "ES256", "signature")
    for attempt in (1, 2):
        failed.connect_started(attempt, 1_000_000.0)
        failed.connect_ended(1_000_001.0, "refused" if attempt == 2 else None)
        failed.upgrade_started(attempt, 1_000_001.0)
        failed.upgrade_ended(1_000_002.0, 503, None)
    failed.finish(whole_report(), 1_000_003.0)
    for span in recorded.all():
        told.setdefault(span.name, set()).update(span.attributes)
    subject_trace = telemetry().handshake(facts, 1_000_000.0)
    lines = {
        "The handshake line": set(summary.of_handshake(subject_trace, whole_report(), 1.0)),
        "The session line": set(summary.of_session(subject_trace.session(1_000_000.0), whole_session(), 1.0)),
    }
    return told, lines


def whole_report():
    lost = stage(
        Role.UPSTREAM, Stage.STABILIZATION, 1_000_000.0, 1_000_001.0, outcome=StageOutcome.FAILED, attempt=1
    )
    return report(
        Outcome.TIMEOUT,
        503,
        redials=("refused",),
        close_code=1013,
        limit="sessions",
        guard="origin",
        auth="missing",
        stages=(lost,),
    )


def whole_session() -> SessionReport:
    usual = closed("upstream", 1014, None)
    return SessionReport("upstream", 1014, 1011, usual.client, usual.upstream, DepartureFacts(1, 2, 3.0))


def documented_attributes() -> dict[str, set[str]]:
    told: dict[str, set[str]] = {}
    names: list[str] = []
    for span, attribute, _ in rows(section(REFERENCE, "Attributes")):
        if span:
            names = words(span) or [span]
        for name in names:
            told.setdefault(name, set()).update(words(attribute))
    return told


def test_the_reference_lists_exactly_the_attributes_of_each_span():
    produced, _ = handshake_and_session()
    documented = documented_attributes()
    stages = documented.pop("stages")
    upstream = {"server.address", "server.port"}  # known to a gate, not to these tests' telemetry
    told: set[str] = set()
    for name, attributes in produced.items():
        role, _, part = name.partition(".")
        if part in set(Stage) and role in set(Role):
            assert attributes <= stages, name
            told |= attributes
        elif name in {"upstream.connect", "upstream.upgrade"}:
            assert attributes | upstream == documented[name], name
        else:
            assert attributes == documented.get(name, set()), name
    assert told == stages
    assert set(documented) <= set(produced)


@pytest.mark.parametrize("heading", ["The handshake line", "The session line"])
def test_the_reference_lists_exactly_the_fields_of_a_log_line(heading: str):
    _, lines = handshake_and_session()
    table = [row for row in rows(section(REFERENCE, heading)) if row[0].strip("`") not in set(Outcome)]
    assert {word for row in table for word in words(row[0])} == lines[heading]


def test_every_outcome_of_a_handshake_and_of_a_stage_is_explained():
    table = {word for row in rows(section(REFERENCE, "The handshake line")) for word in words(row[0])}
    assert set(Outcome) <= table
    stages = {word for row in rows(section(ROOT / "docs/concepts.md", "Stages")) for word in words(row[0])}
    assert set(StageOutcome) <= stages
    assert set(Stage) <= stages


def test_the_reference_lists_exactly_the_metrics_that_are_exported():
    made = telemetry()
    _, session, _ = open_session(made)
    session.finish(whole_session(), 1_000_020.0)
    made.handshake(request(), 1_000_000.0).finish(whole_report(), 1_000_003.0)
    metrics = made.metrics
    metrics.http_request(200, 0.1)
    metrics.lagged(0.001)
    metrics.limit_hit("sessions")
    metrics.guard_refused("origin")
    metrics.auth_failed("missing")
    metrics.key_set_fetched("ok")
    metrics.watch(Held())
    metrics.reloaded("switched")
    text = metrics.prometheus()
    exported = {
        (name, kind, frozenset(labels(text, name)))
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    }
    table = rows(section(REFERENCE, "Metrics"))
    assert {(words(row[0])[0], row[2], frozenset(words(row[3]))) for row in table} == exported
    made = constants(ROOT / "proxy/telemetry/metrics.py")
    assert {words(row[1])[0] for row in table} == {name for name in made if name.startswith("readygate.")}


def labels(text: str, name: str) -> set[str]:
    samples = re.findall(rf"^{name}(?:_bucket|_sum|_count)?{{(.*)}} ", text, re.MULTILINE)
    return {label for sample in samples for label in re.findall(r'(\w+)="', sample)} - {"le"}


def test_every_message_of_the_handshake_line_is_in_the_reference():
    told = words(section(REFERENCE, "The handshake line"))
    assert set(summary._HEADLINES.values()) <= set(told)


# -- paths, links, targets, code ----------------------------------------------------------------------------


@each_page
def test_every_path_of_the_repository_that_a_page_names_exists(page: Path):
    for word in words(prose(page.read_text())):
        if re.fullmatch(rf"(?:{'|'.join(map(re.escape, ROOMS))})/[\w./-]*", word):
            assert (ROOT / word).exists(), f"{page_id(page)} names {word}"


@each_page
def test_every_relative_link_leads_somewhere(page: Path):
    for target in re.findall(r"(?<!!)\]\(([^)\s]+)\)", prose(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page_id(page)} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page_id(page)} links to {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_make_target_that_a_page_names_exists(page: Path):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):(?!=)", makefile, re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z][a-z-]*)\b", page.read_text(), re.MULTILINE)
    assert set(named) <= targets


@each_page
def test_every_python_module_that_a_page_runs_exists(page: Path):
    for module in re.findall(r"python -m (proxy|tests(?:\.\w+)*)", page.read_text()):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


def test_the_python_example_of_the_architecture_runs():
    blocks = re.findall(r"^```python\n(.*?)^```$", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# -- keys, metrics, alerts, variables, errors ---------------------------------------------------------------

OPERATIONS = ROOT / "docs" / "operations.md"
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
SECTIONS = ("handshake", "http", "guard", "departure", "keepalive", "limits", "drain", "session", "upstream")


def keys_of_a_policy() -> set[str]:
    """Every key as pages may name it: with `<leg>` or with the leg, and sections."""
    told = set(keys.table())
    told |= {configuration.folded(path) for path in told}
    return told | {path.rpartition(".")[0] for path in told}


def names_of_spans() -> set[str]:
    table = section(REFERENCE, "Spans").partition("\n### ")[0]
    return {word for row in rows(table) for word in words(row[0])}


@each_page
def test_every_policy_key_that_a_page_names_exists(page: Path):
    attributes = {attribute for told in documented_attributes().values() for attribute in told}
    known = keys_of_a_policy() | names_of_spans() | attributes
    for word in words(prose(page.read_text())):
        key = re.match(rf"(?:{'|'.join(SECTIONS)})(?:\.(?:<leg>|[a-z_]+))+", word)
        if key and not word.endswith(".py") and re.fullmatch(r"(: .*)?", word[key.end() :]):
            assert key[0] in known, f"{page_id(page)} names {key[0]}"


@each_page
def test_every_metric_variable_and_alert_that_a_page_names_exists(page: Path):
    metrics = {words(row[0])[0] for row in rows(section(REFERENCE, "Metrics"))}
    variables = set(
        re.findall(r"READYGATE_[A-Z_]+[A-Z]", REFERENCE.read_text() + configuration.PAGE.read_text())
    )
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yaml").read_text()))
    for word in words(page.read_text()):
        if re.fullmatch(r"readygate_[a-z_]+", word):
            assert word in metrics, f"{page_id(page)} names {word}"
        if re.fullmatch(r"Readygate[A-Z]\w+", word):
            assert word in alerts, f"{page_id(page)} names {word}"
        assert set(re.findall(r"READYGATE_[A-Z_]+[A-Z]", word)) <= variables, f"{page_id(page)} names {word}"


def test_operations_names_every_alert():
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yaml").read_text()))
    assert alerts <= set(words(section(OPERATIONS, "What to watch")))


def test_the_figures_that_sizing_starts_from_are_in_the_page_on_performance():
    told = (ROOT / "docs/performance.md").read_text() + (ROOT / "docs/concepts.md").read_text()
    table = rows(section(OPERATIONS, "Sizing"))[:7]
    assert len(table) == 7
    for row in table:
        for figure in re.findall(r"\d[\d,.]*\d|\d", row[1]):
            assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d]|[.,]\d)", told), row


def texts_of_errors() -> set[str]:
    """Every text with which the gate refuses something: `detail` where there is one, else `title`."""
    told = {
        each.detail
        for module in (limits, denial, paths, refusal, heads, access)
        for each in vars(module).values()
        if isinstance(each, limits.Limit | denial.Denial | refusal.Answer | heads.Fault)
    }
    told -= {limits.CONNECTIONS.detail}  # nobody is told
    calls = {
        "proxy/edge/upgrade.py": r'BadUpgrade\("([^"]+)"',
        "proxy/core/handshake.py": r'_give_up\("([^"]+)"',
        "proxy/edge/http.py": r'problem\(\d+, (?:"Request Timeout", )?"([^"]+)"\)',
    }
    for file, call in calls.items():
        found = set(re.findall(call, (ROOT / file).read_text()))
        assert found, file
        told |= found
    return told


def test_troubleshooting_has_every_text_with_which_the_gate_refuses_something():
    assert texts_of_errors() <= set(words(TROUBLESHOOTING.read_text()))


def test_troubleshooting_has_every_reason_for_which_a_session_ends_and_every_close_code_of_the_gate():
    reasons = {
        word
        for row in rows(section(REFERENCE, "The session line"))
        if row[0] == "`reason`"
        for word in words(row[1])
    }
    table = {word for row in rows(section(TROUBLESHOOTING, "Sessions end")) for word in words(row[1])}
    assert reasons
    assert reasons <= table
    codes = {
        row[0][:4] for row in rows(section(REFERENCE, "Close codes of the gate")) if row[0][:4].isdecimal()
    }
    assert codes <= {row[0] for row in rows(section(TROUBLESHOOTING, "Close codes"))}


@each_page
def test_every_policy_that_a_page_shows_is_valid(page: Path, tmp_path: Path):
    for number, block in enumerate(
        re.findall(r"^ *```yaml\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)
    ):
        if re.search(r"^ *extends: ", block, re.MULTILINE):
            file = tmp_path / f"{number}.yaml"
            file.write_text(textwrap.dedent(block))
            load(str(file))


# -- abuse --------------------------------------------------------------------------------------------------


def names_of_tests(folder: Path) -> set[str]:
    """The names of all tests below a folder."""
    return {
        name
        for file in folder.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }


def test_the_table_of_abuse_names_tests_that_exist_and_every_test_of_its_room():
    heading = "Smuggling and abuse"
    (page,) = [page for page in PAGES if re.search(rf"^#+ {heading}$", page.read_text(), re.MULTILINE)]
    told = {word for row in rows(section(page, heading)) for word in words(row[-1])}
    assert told <= names_of_tests(ROOT / "tests")
    own = names_of_tests(ROOT / "tests" / "hostile" / "instruments")  # the room's tests of its own tools
    assert names_of_tests(ROOT / "tests" / "hostile") - own <= told


# -- rooms --------------------------------------------------------------------------------------------------


def room_order() -> dict[str, int]:
    """The place of each room in the table of the architecture page; rooms of one row share it."""
    table = section(ARCHITECTURE, "Rooms").partition("\n### ")[0]
    return {
        Path(word).with_suffix("").name if word.endswith(".py") else Path(word).name: place
        for place, row in enumerate(rows(table))
        for word in words(row[0])
    }


def imports(file: Path) -> set[str]:
    """The rooms that a file imports, at the top or inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("proxy."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("proxy.")}
    return found


def test_imports_between_rooms_point_one_way_as_the_architecture_page_says():
    order = room_order()
    for file in sorted((ROOT / "proxy").rglob("*.py")):
        inside = file.relative_to(ROOT / "proxy")
        if inside == Path("__init__.py"):
            continue
        room = inside.parts[0] if len(inside.parts) > 1 else inside.stem
        assert room in order, f"{room} is missing in the table of rooms"
        for other in imports(file) - {room}:
            assert order[other] <= order[room], f"{inside} imports proxy.{other}"


def test_every_file_of_the_core_is_in_the_architecture_page():
    files = {f"proxy/core/{file.name}" for file in (ROOT / "proxy/core").glob("*.py")} - {
        "proxy/core/__init__.py"
    }
    told = {word for row in rows(section(ARCHITECTURE, "The core, file by file")) for word in words(row[0])}
    assert told == files


# -- plain HTTP ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "rules"),
    [
        ("What differs in a request", REQUEST_RULES),
        ("What differs in a response", RESPONSE_RULES),
        ("What the gate answers itself", OWN),
    ],
)
def test_the_page_on_http_lists_exactly_the_differences_that_the_differential_test_allows(heading, rules):
    assert sorted(row[0] for row in rows(section(HTTP, heading))) == sorted(rules)
