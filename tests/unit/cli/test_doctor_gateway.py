"""The doctor looks at what a gateway needs as well, with its secrets or without."""

import json

import pytest

from forwarder import cli
from forwarder.kafka import admin, client
from forwarder.ops import logs
from tests.configurations import ROOT, Folder

Capture = pytest.CaptureFixture[str]

ALONE = (ROOT / "config" / "examples" / "gateway.yaml").read_text().replace(
    "localhost:9092", "127.0.0.1:1"
)  # fmt: skip
BESIDE = ALONE.replace(
    "[127.0.0.1:1]",
    "[127.0.0.1:1]\n  topics: [raw-events, {name: pinpoint-events, format: pinpoint}]",
)
SECRETS = {
    "PINPOINT_SECRET": "wJalrXUtnFEMI/K7MDENG+bPxRfiCY",
    "PINPOINT_API_KEY": "5d1f9c77a0b34e6c8d2e",
    "MP_SECRET": "hQ3v9ZkT1sLw8yPcRb2n",
}


@pytest.fixture
def where(folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> "Where":
    """Give a configuration of which nothing answers."""
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    monkeypatch.setattr(client, "quiet_client_log", lambda **_: None)
    monkeypatch.setattr(admin, "ANSWER_SECONDS", 0.0)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    folder.connect(f"name: file\nsink: {{type: file, path: {folder.path}}}\n")
    return Where(folder, capsys)


class Where:
    """Runs the doctor and returns what it found, by where."""

    def __init__(self, folder: Folder, capsys: Capture) -> None:
        self.path = str(folder.path)
        self._folder = folder
        self._capsys = capsys

    def found(self, text: str, *more: str, code: int = 1) -> dict[str, list[dict[str, str]]]:
        """Return the findings."""
        self._folder.write(text)
        assert code == cli.main(["doctor", "--json", "--config", "forwarder.yaml", *more])
        printed = self._capsys.readouterr()
        assert not [one for one in SECRETS.values() if one in printed.out + printed.err]
        by_place: dict[str, list[dict[str, str]]] = {}
        for one in json.loads(printed.out)["findings"]:
            by_place.setdefault(one["where"], []).append(one)
        return by_place


def test_a_file_for_gateways_alone_is_looked_at_as_one(where: Where) -> None:
    found = where.found(ALONE)
    assert ["gateway", "endpoints"] == list(found)
    assert "127.0.0.1:1 lets nobody in" in found["gateway"][0]["what"]
    [store] = found["endpoints"]
    assert ("note", f"{where.path}/endpoints.db is not there: a gateway makes it") == (
        store["grade"], store["what"]
    )  # fmt: skip


def test_a_worker_and_a_gateway_of_one_file_are_both_looked_at(where: Where) -> None:
    found = where.found(BESIDE)
    assert {"kafka", "connection file", "gateway", "endpoints"} == set(found)
    assert ["gateway", "endpoints"] == list(where.found(BESIDE, "--gateway"))
    assert {"kafka", "connection file"} == set(where.found(BESIDE, "--connection", "file"))


def test_without_its_secrets_a_gateway_is_left_for_where_they_are(
    where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MP_SECRET")
    [told] = where.found(BESIDE)["gateway"]
    assert "note" == told["grade"]
    assert "it was not looked at: 1 faults here" in told["what"]
    assert "run doctor --gateway where the gateway runs" in told["what"]
    assert 2 == cli.main(["doctor", "--gateway", "--config", "forwarder.yaml"])


@pytest.mark.parametrize("more", [["--put"], ["--connection", "file"]])
def test_a_gateway_puts_nothing_and_has_no_connection(where: Where, more: list[str]) -> None:
    with pytest.raises(SystemExit):
        where.found(ALONE, *more)
