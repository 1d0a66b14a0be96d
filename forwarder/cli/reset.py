"""``forwarder reset``: collect again from an earlier place, or leave something out."""

import argparse
import re
from typing import Any

from forwarder.admin import outbox_range, reset
from forwarder.admin.contract import GroupSurvey
from forwarder.admin.reset import Move, Target
from forwarder.cli import common, output

_WORDS = ("earliest", "latest")
_OFFSET = re.compile(r"[0-9]{1,18}")
_WANTED = "earliest, latest, a time with its zone (2026-01-31T12:00:00Z), or an offset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where to, and of which partitions."""
    common.add_common(parser)
    parser.add_argument(
        "--to", metavar="T", required=True, help=f"{_WANTED} of the one partition named"
    )
    common.add_topics(parser)
    common.add_partition(parser)
    common.add_consent(parser)
    parser.epilog = (
        "A time is that of the input's records. Works only while no worker runs. Open windows are "
        "dropped and collected again from there on; what was delivered before comes twice, with "
        "other message_ids where windows end elsewhere. Cursors stay: what waits is delivered."
    )


def run(args: argparse.Namespace) -> int:
    """Show what will be done, ask, do it; raises ForwarderError while workers run."""
    loaded = common.load_for_command(args.config)
    target = _target(args.to)
    moves = common.run_query(loaded, lambda survey: _plan(survey, args, target))
    done = False
    if not args.json:
        output.print_text(_table(moves))
    if not args.dry_run and common.confirm(args):
        common.run_query(loaded, lambda survey: reset.apply_reset(survey, moves))
        done = True
    if args.json:
        output.print_json({"moved": done, "partitions": [move.document() for move in moves]})
    else:
        output.print_text("moved\n" if done else "nothing was changed\n")
    return 0 if done or args.dry_run else 1


async def _plan(survey: GroupSurvey, args: argparse.Namespace, target: Target) -> list[Move]:
    await reset.refuse_if_active(survey)
    partitions = await common.selected_partitions(survey, args.topic, args.partition)
    return await reset.plan(survey, partitions, target)


def _target(text: str) -> Target:
    if text in _WORDS:
        return Target(word=text)
    if _OFFSET.fullmatch(text):
        return Target(offset=int(text))
    return Target(time_ms=outbox_range.parse_time(text, "--to", _WANTED))


def _table(moves: list[Move]) -> str:
    heads = ("PARTITION", "READ", "TO", "AGAIN", "LEFT OUT", "WINDOWS DROPPED", "NOTE")
    return output.format_table(heads, (_row(move.document()) for move in moves))


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    return (
        f"{one['topic']}/{one['number']}",
        one["read"],
        one["to"],
        one["records_again"],
        one["records_left_out"],
        one["windows_dropped"],
        one["note"] or _cut(one),
    )


def _cut(one: dict[str, Any]) -> str | None:
    if one["open_from"] is None:
        return None
    return f"events of windows open since record {one['open_from']} are left out"
