"""The doctor tries everything for real, beside workers that notice nothing of it."""

import asyncio
import json

from tests.acceptance.commands import ran
from tests.acceptance.scene import Scene
from tests.services.ministack import CUSTOMER_ACCOUNT, REGION, MiniStack

SINGLY = {"send_as_batch": False}


def connect(scene: Scene, name: str, org: str) -> None:
    """Connect the scene's stream through a role whose trust asks for orgid:1."""
    credentials = {"aws_account_id": CUSTOMER_ACCOUNT, "org_id": org, "role_name": scene.name}
    sink = {"type": "kinesis", "stream_name": scene.name, "region": REGION}
    scene.connect({"name": name, "credentials": credentials, "sink": sink, "settings": SINGLY})


async def test_the_doctor_says_who_it_is_what_it_may_do_and_what_to_mend(
    scene: Scene, ministack: MiniStack
) -> None:
    scene.variables = ministack.variables()
    await asyncio.to_thread(ministack.make_role, scene.name, ("kinesis:PutRecord",), "orgid:1")
    await asyncio.to_thread(ministack.make_stream, scene.name)
    scene.to_file(settings=SINGLY)
    connect(scene, "good", "1")

    before = (await ran(scene, "doctor", "--json", "--connection", "acme")).document
    assert before["ok"], "topics that a worker will create are no fault"
    assert {"ok", "note"} == {one["grade"] for one in before["findings"]}

    worker = scene.worker()
    worker.start()
    await worker.until_ready()
    await scene.feed([1])
    await worker.until(lambda: scene.numbers() == [1], "the worker delivers")
    connect(scene, "wary", "2")
    found = (await ran(scene, "doctor", "--json", "--put", code=1)).document
    await scene.feed([2])
    await worker.until(lambda: scene.numbers() == [1, 2], "it goes on")
    assert [] == worker.logged("tick.failed") + worker.logged("partition.failed")

    said = {(one["where"], one["grade"], one["what"]) for one in found["findings"]}
    topics = {what for where, grade, what in said if (where, grade) == ("kafka", "ok")}
    assert any(f"{scene.name}.outbox.{scene.topic} was begun and aborted" in it for it in topics)
    assert ("worker", "ok", "signs as arn:aws:iam::000000000000:root") in said
    good = {(grade, what) for where, grade, what in said if where == "connection good"}
    assert ("ok", "PutRecord is allowed") in good
    assert any("was assumed with ExternalId orgid:1: signs as" in what for _, what in good)
    [note] = [what for grade, what in good if grade == "note"]
    assert note.startswith("PutRecords on stream")
    assert note.endswith("the other action is used")
    [failed] = [one for one in found["findings"] if one["grade"] == "fail"]
    assert ("connection wary", True) == (failed["where"], "ExternalId orgid:2" in failed["what"])
    assert "trust policy" in failed["remedy"]
    [record] = [r for r in ministack.read(scene.name) if b"forwarder_test" in r.value]
    assert [] == json.loads(record.value)["events"]

    printed = (await ran(scene, "doctor", "--connection", "good")).out
    assert "note  no record was put: --put tries it" in printed
    assert printed.endswith("nothing to mend\n")
