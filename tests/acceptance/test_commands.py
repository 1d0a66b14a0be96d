"""What operators ask of a group, and do to it, beside real workers on a real Kafka."""

import asyncio
import json
import signal

from tests.acceptance.commands import answered, begun, block, ran, status, stopped
from tests.acceptance.harness import Worker, until
from tests.acceptance.scene import Scene, documents, numbers
from tests.services.ministack import HOME_ACCOUNT, REGION, MiniStack

SINGLY = {"send_as_batch": False}
MANY = list(range(1, 13))


async def at_work(scene: Scene) -> Worker:
    """Start a worker whose one connection has delivered MANY, and whose other is blocked."""
    scene.to_file(settings=SINGLY)
    block(scene)
    worker = scene.worker()
    worker.start()
    await worker.until_ready()
    await scene.feed([n for n in MANY if n % 2], device="d1")
    await scene.feed([n for n in MANY if n % 2 == 0], device="d2")
    await worker.until(lambda: sorted(scene.numbers()) == MANY, "everything arrives")

    async def committed() -> bool:
        found = {one["connection"]: one for one in (await status(scene))["connections"]}
        behind = [found[name]["batches_behind"] for name in ("acme", "blocked")]
        return behind == [0, len(MANY)] and found["blocked"]["error"] is not None

    await worker.until(committed, "a tick says so")
    return worker


async def test_status_tells_how_partitions_and_connections_stand_with_and_without_a_worker(
    scene: Scene,
) -> None:
    worker = await at_work(scene)

    busy = await status(scene)

    assert (scene.name, "Stable", 1) == (busy["group"], busy["group_state"], len(busy["members"]))
    assert [0, 1] == [one["number"] for one in busy["partitions"]]
    for one in busy["partitions"]:
        assert one["opens"]
        assert one["refusal"] is None
        assert one["owner"] == busy["members"][0]["client_id"]
        assert one["lag_read"] == 0
        assert one["read"] == one["watermark"] == one["input_end"]
    blocked = busy["connections"][1]
    assert ("blocked", "known", True) == (blocked["connection"], blocked["lane"], blocked["exact"])
    assert blocked["seconds_behind"] > 0
    assert blocked["error"]
    assert worker.logged("tick.failed") == []

    await stopped(scene)
    (scene.folder / "connections" / "acme.yaml").unlink()
    scene.to_file("added")
    idle = await status(scene, "--deep")
    assert idle["members"] == []
    lanes = {one["connection"]: one["lane"] for one in idle["connections"]}
    assert {"acme": "unknown", "added": "new", "blocked": "known"} == lanes
    text = (await ran(scene, "status", "--all")).out
    assert "CONNECTION" in text
    assert "blocked" in text


async def test_what_is_stored_can_be_listed_printed_and_sent_again(
    scene: Scene, ministack: MiniStack
) -> None:
    await at_work(scene)
    await _outbox_show_lists_what_is_stored_and_prints_it(scene)
    await _replay_sends_the_stored_bytes_again_and_moves_no_cursor(scene)
    await _a_replay_that_is_interrupted_says_where_to_go_on(scene)
    await _replay_puts_the_stored_bytes_into_a_stream_too(scene, ministack)


async def _outbox_show_lists_what_is_stored_and_prints_it(scene: Scene) -> None:
    show = ("outbox", "show", "--json", "--connection")

    listed = (await ran(scene, *show, "acme", "--payload")).document

    assert listed["more"] is False
    assert {"delivered"} == {one["state"] for one in listed["batches"]}
    stored = {one["payload"] for one in listed["batches"]}
    lines = (scene.folder / "out" / "acme.ndjson").read_text().splitlines()
    assert set(lines) == stored
    one = listed["batches"][3]
    by_id = (await ran(scene, *show, "acme", "--id", one["id"])).document["batches"]
    assert [one["address"]] == [found["address"] for found in by_id]
    waiting = (await ran(scene, *show, "blocked", "--waiting", "--limit", "5")).document
    assert (5, True) == (len(waiting["batches"]), waiting["more"])
    device = one["device_key"]
    of_device = (await ran(scene, *show, "acme", "--device-key", device[:8])).document["batches"]
    assert 6 == len(of_device)
    assert one["id"] in (await ran(scene, *show[:2], *show[3:], "acme")).out


async def _replay_sends_the_stored_bytes_again_and_moves_no_cursor(scene: Scene) -> None:
    before = await status(scene)
    target = ("--to-sink", f"file:{scene.folder / 'again'}")
    ever = ("--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z")
    replay = ("replay", "--json", "--connection", "acme", *ever)

    counted = (await ran(scene, *replay, "--dry-run")).document
    sent = (await ran(scene, *replay, *target, "--rate", "0")).document

    assert (12, 12, True) == (counted["batches"], sent["sent"], sent["complete"])
    again = documents(scene.folder / "again" / "acme.ndjson")
    assert sorted(map(str, scene.delivered())) == sorted(map(str, again))
    odd = [n for n in numbers(again) if n % 2]
    assert [n for n in MANY if n % 2] == odd
    after = await status(scene)
    cursors = [[c["cursor"] for c in p["connections"]] for p in before["partitions"]]
    assert cursors == [[c["cursor"] for c in p["connections"]] for p in after["partitions"]]
    assert [] == scene.workers[0].logged("partition.failed")


async def _a_replay_that_is_interrupted_says_where_to_go_on(scene: Scene) -> None:
    again = scene.folder / "interrupted" / "acme.ndjson"
    ever = ("--from", "1000000000000", "--to", "9000000000000")
    target = ("--to-sink", f"file:{again.parent}")
    words = ("replay", "--json", "--connection", "acme", *ever, *target)

    process = await begun(scene, *words, "--rate", "2/s")
    await until(lambda: len(documents(again)) >= 2, "the first ones were sent")
    process.send_signal(signal.SIGINT)
    answer = await answered(process)

    assert answer.code == 1
    assert "Traceback" not in answer.err
    assert not answer.document["complete"]
    first = answer.document["sent"]
    assert len(documents(again)) == first < len(MANY)
    places = ",".join(answer.document["resume"])
    rest = (await ran(scene, *words, "--rate", "0", "--resume", places)).document
    assert rest["complete"]
    assert len(MANY) == first + rest["sent"]
    assert sorted(numbers(documents(again))) == MANY


async def _replay_puts_the_stored_bytes_into_a_stream_too(
    scene: Scene, ministack: MiniStack
) -> None:
    await asyncio.to_thread(ministack.make_stream, scene.name, HOME_ACCOUNT)
    sink = {"type": "kinesis", "stream_name": scene.name, "region": REGION}
    other = scene.folder / "other.yaml"
    other.write_text(json.dumps({"name": "other", "sink": sink}))
    scene.variables = ministack.variables()
    ever = ("--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z", "--rate", "0")

    sent = await ran(scene, "replay", "--connection", "acme", *ever, "--to-sink", str(other))

    assert "sent 12 batches" in sent.out
    stored = await asyncio.to_thread(ministack.read, scene.name, HOME_ACCOUNT)
    lines = (scene.folder / "out" / "acme.ndjson").read_bytes().splitlines()
    assert sorted(lines) == sorted(record.value for record in stored)


async def test_reset_refuses_while_workers_run_and_then_moves_where_they_collect(
    scene: Scene,
) -> None:
    worker = await at_work(scene)
    reset = ("reset", "--json", "--to")

    active = await ran(scene, *reset, "earliest", "--yes", code=1)

    assert "stop every worker" in active.err
    await stopped(scene)
    await ran(scene, *reset, "earliest", code=2)
    planned = (await ran(scene, *reset, "earliest", "--dry-run")).document
    assert planned["moved"] is False
    assert 12 == sum(one["records_again"] for one in planned["partitions"])
    wrong = await ran(scene, *reset, "99", "--partition", "0", "--yes", code=2)
    assert "holds offsets 0 to" in wrong.err
    assert (await ran(scene, *reset, "earliest", "--yes")).document["moved"]
    worker.start()
    await worker.until(
        lambda: sorted(scene.numbers()) == sorted(MANY * 2), "everything arrives once more"
    )
    assert all(one["opens"] for one in (await status(scene))["partitions"])


async def test_commands_say_in_plain_words_what_cannot_be_done(scene: Scene) -> None:
    scene.to_file()
    never = await status(scene)
    assert [False, False] == [one["opens"] for one in never["partitions"]]
    assert "no worker of group" in never["partitions"][0]["refusal"]
    strange = await ran(scene, "status", "--topic", "elsewhere", code=2)
    assert "elsewhere is not configured" in strange.err
