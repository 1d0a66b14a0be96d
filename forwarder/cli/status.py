"""``forwarder status``: how partitions and connections stand, asked of Kafka alone."""

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from forwarder.admin.retired_topics import REMEDY, UNKNOWN, left_topics
from forwarder.admin.status import status
from forwarder.cli import common, output
from forwarder.clock import SystemClock
from forwarder.config.yaml.units import format_duration
from forwarder.ops.health import REJECTED_TEXT
from forwarder.ops.stall import STALL_REMEDIES, StallReason
from forwarder.worker import circuit_breaker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to look at, and how closely."""
    common.add_common(parser)
    common.add_topics(parser)
    parser.add_argument(
        "--deep", action="store_true", help="count every waiting batch, however many there are"
    )
    parser.add_argument(
        "--all", action="store_true", help="list every connection on every partition"
    )
    parser.epilog = (
        "Without --deep about 16 MiB of the outbox are read behind a cursor; a larger backlog is "
        "shown as a lower bound (12+). Windows that are open in a worker's memory are not in "
        "Kafka: HELD counts the saved ones."
    )


def run(args: argparse.Namespace) -> int:
    """Print it; raises ForwarderError if Kafka does not answer."""
    loaded = common.load_for_command(args.config)
    now = SystemClock().wall_ms()
    rules = common.keying_rules(loaded)
    document = common.run_query(
        loaded, lambda survey: status(survey, rules, now, args.topic or (), deep=args.deep)
    )
    if args.json:
        output.print_json(document)
    else:
        output.print_text("\n".join(_lines(document, every=args.all)))
    return 0


def _lines(document: dict[str, Any], *, every: bool) -> Iterator[str]:
    members = len(document["members"])
    plural = "" if members == 1 else "s"
    state = document["group_state"]
    yield f"group {document['group']}: {state}, {members} worker{plural}, {document['at']}\n"
    yield _partitions(document)
    yield _connections(document)
    if places := list(_location_rows(document, every=every)):
        heads = ("CONNECTION", "PARTITION", "LANE", "CURSOR", "BEHIND", "SECONDS", "NEED")
        yield output.format_table(heads, places, output.WIDTH)
    yield from (output.wrap_text(remark) + "\n" for remark in _remarks(document))


def _partitions(document: dict[str, Any]) -> str:
    heads = (
        *("PARTITION", "INPUT", "READ", "LAG", "COMMIT", "LAG", "TICK"),
        *("STATE", "HELD", "OWNER"),
    )
    return output.format_table(
        heads, (_partition(one) for one in document["partitions"]), output.WIDTH
    )


def _partition(one: dict[str, Any]) -> tuple[object, ...]:
    name = f"{one['topic']}/{one['number']}"
    if "read" not in one:
        return (name, *[None] * 8, one["owner"])
    return (
        name,
        f"{one['input_start']}-{one['input_high_watermark']}",
        one["read"],
        one["lag_read"],
        one["watermark"],
        one["lag_commit"],
        one["tick"],
        f"{one['state_bytes']} B",
        one["held_windows"],
        one["owner"],
    )


def _connections(document: dict[str, Any]) -> str:
    heads = ("CONNECTION", "LANE", "BEHIND", "SECONDS", "HELD", "SEEN", "ERROR")
    rows = (
        (
            one["connection"],
            one["lane"],
            _lag_text(one),
            f"{one['seconds_behind']:.1f}",
            one["held_windows"],
            one["seen"],
            one["error"],
        )
        for one in document["connections"]
    )
    return output.format_table(heads, rows, output.WIDTH)


def _location_rows(document: dict[str, Any], *, every: bool) -> Iterator[tuple[object, ...]]:
    for partition in document["partitions"]:
        for one in partition["connections"]:
            if every or one["batches_behind"] or one["stopped"] or one["error"]:
                yield (
                    one["connection"],
                    f"{partition['topic']}/{partition['number']}",
                    one["lane"],
                    ".".join(map(str, one["cursor"])),
                    _lag_text(one),
                    f"{one['seconds_behind']:.1f}",
                    one["need"],
                )


def _lag_text(one: dict[str, Any]) -> str:
    return f"{one['batches_behind']}{'' if one['exact'] else '+'}"


def _remarks(document: dict[str, Any]) -> Iterator[str]:
    for rest in left_topics(document["partitions"]):
        fate = REMEDY if rest.is_unfinished() else UNKNOWN
        fate = "given up" if rest.topic in document["retired_topics"] else fate
        yield f"not in kafka.topics, and delivered by nobody: {rest.text()}; {fate}"
    for one in document["complaints"]:
        yield f"Kafka: {one['what']}; {one['remedy']}"
    for one in document["connections"]:
        if one["error"]:
            yield f"{one['connection']}: {one['error']}"
    yield from _of_duplicates(document["partitions"])
    for partition in document["partitions"]:
        yield from _of_partition(partition)


def _of_duplicates(partitions: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Say of each topic that looks for duplicates how far apart, and what that costs an opening."""
    topics: dict[str, list[dict[str, Any]]] = {}
    for one in partitions:
        if one.get("duplicates") is not None:
            topics.setdefault(one["topic"], []).append(one["duplicates"])
    for topic, told in topics.items():
        window = format_duration(max(one["window_ms"] for one in told))
        most = max(one["offsets"] for one in told)
        text = f"duplicates are looked for {window} apart; an opening looks back on"
        yield f"{topic}: {text} {most} offsets at most"


def _of_partition(partition: dict[str, Any]) -> Iterator[str]:
    name = f"{partition['topic']}/{partition['number']}"
    if partition["refusal"]:
        yield f"{name} would not open: {partition['refusal']}"
    if partition.get("intake_stopped"):
        since = partition["intake_stopped"]
        remedy = circuit_breaker.STOPPED_REMEDY
        yield f"{name} is not collected since {since}: {REJECTED_TEXT}; {remedy}"
    elif (stall := partition.get("stalled")) and not partition["refusal"]:
        remedy = STALL_REMEDIES[StallReason(stall["reason"])]
        yield f"{name} is not read beyond {partition['read']}: {stall['what']}; {remedy}"
    for one in partition["connections"]:
        if one["stopped"]:
            yield f"{one['connection']} is stopped on {name}: {one['stopped']}"
