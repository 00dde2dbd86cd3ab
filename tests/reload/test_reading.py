"""What the loader tells of a policy besides the policy: its files, and whether they have changed."""

from __future__ import annotations

from pathlib import Path

from proxy.policy.load import digest, examine, load, presets


def test_every_file_that_a_policy_extends_is_told_with_its_digest(tmp_path: Path):
    (tmp_path / "parent.yaml").write_text("extends: staging\n")
    (tmp_path / "gate.yaml").write_text("extends: parent.yaml\n")
    reading = examine(str(tmp_path / "gate.yaml"))
    expected = [
        tmp_path / "gate.yaml",
        tmp_path / "parent.yaml",
        presets()["staging"],
        presets()["production"],
    ]
    assert list(reading.files) == expected
    assert all(reading.files[file] == digest(file) for file in expected)
    assert reading.policy == load("staging")


def test_a_preset_is_read_from_its_file_and_the_one_that_it_is_laid_over():
    assert list(examine("testing").files) == [presets()["testing"], presets()["production"]]


def test_a_bad_file_is_told_with_all_its_problems_and_all_that_was_read(tmp_path: Path):
    (tmp_path / "parent.yaml").write_text("drain: {spread_s: soon}\n")
    (tmp_path / "gate.yaml").write_text("extends: parent.yaml\nsesion: {}\n")
    reading = examine(str(tmp_path / "gate.yaml"))
    assert reading.policy is None
    assert sorted(problem.key for problem in reading.problems) == ["drain.spread_s", "sesion"]
    assert {tmp_path / "gate.yaml", tmp_path / "parent.yaml"} < set(reading.files)


def test_a_file_that_is_not_there_is_looked_for_so_that_it_may_come(tmp_path: Path):
    (tmp_path / "gate.yaml").write_text("extends: sub/parent.yaml\n")
    reading = examine(str(tmp_path / "gate.yaml"))
    assert reading.policy is None
    assert reading.files[tmp_path / "sub/parent.yaml"] is None
    assert examine(str(tmp_path / "none.yaml")).files == {tmp_path / "none.yaml": None}


def test_a_name_that_can_be_no_file_is_a_problem_like_any_other():
    for name in ("", "a\0b", "x" * 5000):
        reading = examine(name)
        assert reading.policy is None
        assert len(reading.problems) == 1


def test_what_cannot_be_read_has_no_digest(tmp_path: Path):
    assert digest(tmp_path / "none") is None
    assert digest(tmp_path) is None
    assert digest(Path("a\0b")) is None


def test_a_policy_may_be_given_another_name_than_its_file(tmp_path: Path):
    (tmp_path / "policy-7.yaml").write_text("extends: staging\n")
    policy = examine(str(tmp_path / "policy-7.yaml"), "gate.yaml").policy
    assert policy is not None
    assert policy.name == "gate.yaml"
    assert policy.dump().startswith("# effective policy: gate.yaml\n")


def test_readings_are_the_same_when_they_decide_the_same(tmp_path: Path):
    file = tmp_path / "gate.yaml"
    file.write_text("extends: staging\n")
    before = examine(str(file))
    file.write_text("# a comment\nextends: staging\n")
    after = examine(str(file))
    assert after.files != before.files
    assert after.same(before)
    file.write_text("extends: testing\n")
    assert not examine(str(file)).same(before)


def test_an_authority_file_with_another_content_decides_otherwise(tmp_path: Path):
    ca_file, file = tmp_path / "ca.pem", tmp_path / "gate.yaml"
    file.write_text("upstream: {tls: {ca_file: ca.pem}}\n")
    ca_file.write_text("one")
    before = examine(str(file))
    assert before.files[ca_file] == digest(ca_file)
    assert examine(str(file)).same(before)
    ca_file.write_text("two")
    assert not examine(str(file)).same(before)
