import re

import pytest

from forwarder.config.connection_fields import CONNECTION
from forwarder.config.loader import load_connection
from forwarder.config.mparticle_settings import SETTINGS
from forwarder.config.worker_fields import WORKER as WORKER_SECTION
from forwarder.formats.mparticle.event_filter import SETTING_BY_EVENT_TYPE
from tests.configurations import Folder
from tests.reference import PAGE, current, leaves

TEXT = PAGE.read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
WORKERS = [text for text in EXAMPLES if text.startswith("kafka:")]
CONNECTIONS = [text for text in EXAMPLES if text not in WORKERS]
ENVIRON = {"HOSTNAME": "worker-0", "ACME_KEY_ID": "AKIA", "ACME_SECRET": "s"}


def test_the_page_has_examples_of_both_files() -> None:
    assert (4, 9) == (len(WORKERS), len(CONNECTIONS))


@pytest.mark.parametrize("text", WORKERS)
def test_every_example_of_a_worker_file_loads(folder: Folder, text: str) -> None:
    folder.write(text)
    loaded = folder.load(ENVIRON, offline=True)
    assert "raw-events" == loaded.configuration.kafka.topics[0].name


@pytest.mark.parametrize("text", CONNECTIONS)
def test_every_example_of_a_connection_loads_without_a_note(folder: Folder, text: str) -> None:
    loaded = load_connection(folder.connect(text), environ=ENVIRON)
    assert f"name: {loaded.connection.name}\n" in text
    assert () == loaded.notes


def test_the_tables_are_current() -> None:
    assert current(TEXT) == TEXT, "run: python -m tests.reference"


def test_every_key_is_on_the_page() -> None:
    rows = set(re.findall(r"^\| `([a-z0-9_.\[\]]+)` \|", TEXT, re.MULTILINE))
    keys = {path for top in (WORKER_SECTION, CONNECTION) for path, _, _ in leaves(top)}
    assert keys | {field.name for field in SETTINGS.fields} == rows


def test_every_event_type_is_on_the_page() -> None:
    for kind in SETTING_BY_EVENT_TYPE:
        assert f"`{kind}`" in TEXT
