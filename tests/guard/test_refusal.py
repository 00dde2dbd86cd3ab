"""What is answered: little to the client, the same for all that is wrong with a token but its age."""

from __future__ import annotations

import json

import pytest

from proxy.guard import Reason, answer_to

TELLING = {Reason.MISSING, Reason.EXPIRED, Reason.KEYS_UNAVAILABLE, Reason.ACCEPTED}


@pytest.mark.parametrize("reason", sorted(set(Reason) - TELLING))
def test_who_guesses_does_not_learn_what_was_wrong(reason):
    assert answer_to(reason) == answer_to(Reason.SIGNATURE)


def test_without_a_token_the_challenge_has_no_error():
    answer = answer_to(Reason.MISSING)
    assert (answer.status, answer.challenge) == (401, 'Bearer realm="readygate"')
    assert json.loads(answer.message) == {
        "type": "error",
        "code": "unauthorized",
        "message": "a token is required",
    }


@pytest.mark.parametrize(
    ("reason", "code"), [(Reason.SIGNATURE, "invalid_token"), (Reason.EXPIRED, "token_expired")]
)
def test_a_bad_token_is_told_as_the_rfc_says(reason, code):
    answer = answer_to(reason)
    assert answer.status == 401
    assert answer.challenge.startswith('Bearer realm="readygate", error="invalid_token", error_description="')
    assert json.loads(answer.message)["code"] == code
    assert answer.close_code(4401) == 4401


def test_a_token_that_cannot_be_checked_is_not_called_bad():
    answer = answer_to(Reason.KEYS_UNAVAILABLE)
    assert (answer.status, answer.challenge, answer.passes, answer.close_code(4401)) == (503, "", True, 1013)
