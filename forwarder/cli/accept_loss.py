"""``forwarder accept-loss``: the explicit way on after something is lost."""

import argparse
from collections.abc import Iterator

from forwarder.admin import accept_loss
from forwarder.admin.accept_loss import AcceptLossRequest
from forwarder.admin.contract import GroupSurvey
from forwarder.admin.repair import RepairedSnapshot, RepairPlan, Resend
from forwarder.cli import common, output
from forwarder.clock import SystemClock
from forwarder.config.loader import LoadedConfiguration
from forwarder.errors import ConfigurationError
from forwarder.model import Partition

_WORDS = ("earliest", "latest")
_CHOICE = "give --from earliest, latest or an offset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which partition, and what the operator decides."""
    common.add_common(parser)
    parser.add_argument("--topic", metavar="T", required=True, help="the input topic")
    parser.add_argument("--partition", type=int, metavar="N", required=True, help="its partition")
    parser.add_argument(
        "--connection", metavar="NAME", help="only what this connection lost; the others stay"
    )
    parser.add_argument(
        "--from",
        dest="begin",
        metavar="T",
        default="",
        help="earliest, latest or an offset: where to collect from if the input was replaced; if "
        "the state is lost, instead of the committed offset",
    )
    parser.add_argument(
        "--resend",
        choices=[one.value for one in Resend],
        default=Resend.KNOWN.value,
        help="if state or outbox are lost, which stored batches are sent: from the cursors still "
        "known, else all (known, the default); all; none",
    )
    common.add_consent(parser)
    parser.epilog = (
        "Nothing is given up without saying so first. It may run beside workers: the owner of the "
        "partition is fenced and opens it again. A second run finds nothing to accept."
    )


def run(args: argparse.Namespace) -> int:
    """Say what is lost, ask, and let it go; raises ForwarderError."""
    if args.begin and args.begin not in _WORDS and not args.begin.isdecimal():
        complaint = f"--from: must be earliest, latest or an offset, is {args.begin!r}"
        raise ConfigurationError([complaint])
    loaded = common.load_for_command(args.config)
    wish = _request(args, loaded)
    plan = common.run_query(loaded, lambda survey: _find_losses(survey, wish))
    if not args.json:
        output.print_text("\n".join(_lines(wish, plan, asked=args.dry_run)) + "\n")
    if plan.undecided and not args.dry_run:
        complaint = f"{wish.partition}: {plan.undecided}; {_CHOICE}"
        raise ConfigurationError([complaint])
    written = None
    if plan.losses and not args.dry_run and common.confirm(args):
        written = common.run_query(loaded, lambda survey: _accept(survey, wish, plan))
    _finish(args, wish, plan, written)
    return 0 if written or args.dry_run or not plan.losses else 1


def _request(args: argparse.Namespace, loaded: LoadedConfiguration) -> AcceptLossRequest:
    rules = common.keying_rules(loaded)
    if args.connection is not None and args.connection not in rules:
        complaint = f"--connection: {args.connection} is not configured; give one of "
        raise ConfigurationError([complaint + ", ".join(rules)])
    partition = Partition(args.topic, args.partition)
    return AcceptLossRequest(partition, rules, args.connection, args.begin, Resend(args.resend))


async def _find_losses(survey: GroupSurvey, wish: AcceptLossRequest) -> RepairPlan:
    await common.selected_partitions(survey, [wish.partition.topic], wish.partition.number)
    return await accept_loss.find_losses(survey, wish, SystemClock())


async def _accept(
    survey: GroupSurvey, wish: AcceptLossRequest, plan: RepairPlan
) -> RepairedSnapshot:
    return await accept_loss.accept_losses(survey, wish, SystemClock(), plan.losses)


def _lines(wish: AcceptLossRequest, plan: RepairPlan, *, asked: bool) -> Iterator[str]:
    if not plan.losses:
        yield f"{wish.partition}: nothing to accept"
    for loss in plan.losses:
        yield f"{wish.partition}: lost: {loss.what}"
        yield f"  given up: {loss.given_up}"
    if plan.undecided and asked:
        yield f"{wish.partition}: {plan.undecided}; {_CHOICE}"


def _finish(
    args: argparse.Namespace,
    wish: AcceptLossRequest,
    plan: RepairPlan,
    written: RepairedSnapshot | None,
) -> None:
    if args.json:
        output.print_json(accept_loss.document(wish, plan, written))
    elif written:
        text = f"accepted: collecting goes on from record {written.offset}, tick {written.n}"
        output.print_text(text + "\n")
    elif plan.losses:
        output.print_text("nothing was changed\n")
