"""How clients are set up, quietened and closed."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.errors import ProducerFenced

from forwarder.config.settings import Kafka, Mechanism, Security, SecurityProtocol
from forwarder.errors import StartupError
from forwarder.kafka import client
from tests.world import virtually


def test_a_plain_connection_needs_nothing_but_its_protocol() -> None:
    assert client.security_arguments(Security()) == {"security_protocol": "PLAINTEXT"}


def test_passwords_go_to_the_client_with_their_mechanism() -> None:
    security = Security(SecurityProtocol.SASL_PLAINTEXT, Mechanism.SCRAM_SHA_512, "me", "secret")
    expected = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "me",
        "sasl_plain_password": "secret",
    }
    assert expected == client.security_arguments(security)


@pytest.mark.parametrize("protocol", [SecurityProtocol.SSL, SecurityProtocol.SASL_SSL])
def test_an_encrypted_connection_checks_names_and_certificates(protocol: SecurityProtocol) -> None:
    context = client.security_arguments(Security(protocol))["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


def test_unusable_certificates_are_said(tmp_path: Path) -> None:
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("no certificate")
    security = Security(SecurityProtocol.SSL, ca_file=str(nonsense))
    with pytest.raises(StartupError, match="certificates for Kafka"):
        client.client_arguments(Kafka(("localhost:1",), (), security=security), "me")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), "TimeoutError"),
        (OSError("two\nlines"), "OSError: two lines"),
        (ProducerFenced("late"), "ProducerFenced: late"),
    ],
)
def test_an_error_is_one_line_that_begins_with_its_kind(error: Exception, expected: str) -> None:
    assert expected == client.error_text(error)


async def test_closing_goes_on_whatever_a_step_does() -> None:
    done = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ProducerFenced

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    async def last() -> None:
        done.append("last")

    await client.close_all(fails, hangs, cancels_itself, last, seconds=0.01)
    assert done == ["last"]


@virtually
async def test_who_closes_can_be_cancelled_and_every_step_is_taken_all_the_same() -> None:
    done: list[str] = []

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def last() -> None:
        done.append("last")

    closing = asyncio.ensure_future(client.close_all(hangs, last, seconds=5))
    await asyncio.sleep(1)
    closing.cancel()
    await asyncio.wait({closing})
    assert (True, []) == (closing.cancelled(), done)
    await asyncio.sleep(5)
    assert ["last"] == done
    assert {asyncio.current_task()} == asyncio.all_tasks()


@pytest.fixture
def quiet() -> Iterator[None]:
    """Quieten the logs twice, and leave them as they were."""
    found = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    before = [(logger, logger.level, list(logger.filters)) for logger in found]
    client.quiet_client_log()
    client.quiet_client_log()
    yield
    for logger, level, filters in before:
        logger.setLevel(level)
        logger.filters = filters


def record(
    name: str, text: str, at: float, error: BaseException | None = None
) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    made = logging.LogRecord(name, logging.ERROR, "", 1, text, (), info)
    made.created = at
    return made


@pytest.mark.usefixtures("quiet")
def test_a_message_that_repeats_is_let_through_once_a_minute() -> None:
    logger = logging.getLogger("aiokafka")
    passed = [bool(logger.filter(record("aiokafka", "no broker", at))) for at in (0.0, 30.0, 61.0)]
    assert passed == [True, False, True]
    assert logger.filter(record("aiokafka", "something else", 30.0))


@pytest.mark.usefixtures("quiet")
def test_only_the_clients_abandoned_futures_are_silenced() -> None:
    logger = logging.getLogger("asyncio")
    text = "Future exception was never retrieved"
    assert not logger.filter(record("asyncio", text, 0.0, ProducerFenced()))
    assert logger.filter(record("asyncio", text, 0.0, ValueError()))
    assert logger.filter(record("asyncio", "Executing took 3 seconds", 0.0))
