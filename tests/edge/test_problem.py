from __future__ import annotations

import json

from proxy.edge.problem import problem


def test_a_problem_is_a_json_document_of_its_own_media_type():
    answer = problem(502, "Upstream cannot be reached", "It said no.")
    assert answer.status == 502
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body) == {
        "title": "Upstream cannot be reached",
        "status": 502,
        "detail": "It said no.",
    }


def test_a_problem_without_detail_has_no_detail():
    assert "detail" not in json.loads(problem(400, "Bad").body)


def test_retry_after_is_in_whole_seconds_and_never_too_short():
    assert problem(503, "Not ready", retry_after_s=0.2).headers["Retry-After"] == "1"
    assert problem(503, "Not ready", retry_after_s=3).headers["Retry-After"] == "3"
    assert "Retry-After" not in problem(503, "Not ready").headers


def test_a_problem_is_not_cached_and_does_not_name_the_library_behind_it():
    headers = problem(504, "Late").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "readygate"


def test_further_headers_are_added_and_may_repeat():
    headers = problem(
        401, "No", headers=[("WWW-Authenticate", "Bearer"), ("WWW-Authenticate", "Basic")]
    ).headers
    assert headers.getall("WWW-Authenticate") == ["Bearer", "Basic"]
