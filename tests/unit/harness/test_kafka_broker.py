"""What the broker for tests does where its tools are missing."""

import pytest

from tests.services import kafka


def test_a_missing_java_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(kafka.MissingToolError, match="needs Java 17 or newer"):
        kafka.require_tools()


def test_an_old_java_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "java_version", lambda: 11)
    with pytest.raises(kafka.MissingToolError, match="needs Java 17 or newer"):
        kafka.require_tools()


def test_a_missing_maven_is_said_where_jars_have_to_be_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(kafka, "java_version", lambda: 21)
    monkeypatch.setattr(kafka, "jars_present", lambda: False)
    with pytest.raises(kafka.MissingToolError, match="needs Maven"):
        kafka.require_tools()
    monkeypatch.setattr(kafka, "jars_present", lambda: True)
    kafka.require_tools()


def test_a_missing_tool_skips_here_and_fails_in_continuous_integration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Java"):
        kafka.skip_or_fail("no Java")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Java"):
        kafka.skip_or_fail("no Java")
