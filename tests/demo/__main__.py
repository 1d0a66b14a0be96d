"""``python -m tests.demo``: exit code 0 if everything arrived, 1 if not, 130 if interrupted."""

import argparse
import asyncio
import logging
import signal
import sys
from types import FrameType

from aiokafka.errors import KafkaError

from tests.demo import pinpoint, scene
from tests.demo.screen import Screen
from tests.demo.story import Load, Story
from tests.demo.worker import WorkerError
from tests.services.kafka import MissingToolError

OK, FAILED, INTERRUPTED = 0, 1, 130

EXPECTED = (WorkerError, MissingToolError, KafkaError, RuntimeError, OSError, TimeoutError)
"""What can go wrong on somebody's machine; the text says it all."""


def main() -> int:
    """Set up, perform, judge, clear away."""
    args = arguments()
    screen = Screen()
    obey_signals()
    quiet_libraries()
    screen.title()
    try:
        return perform(args, screen)
    except KeyboardInterrupt:
        screen.say("interrupted; nothing is left behind", "!")
        return INTERRUPTED
    except EXPECTED as error:
        faults: tuple[Exception, ...] = (error,)
    except ExceptionGroup as group:
        expected, others = group.split(EXPECTED)
        if others is not None or expected is None:
            raise
        faults = leaves(expected)
    for fault in faults:
        screen.say(str(fault) or "nothing happened for too long", "✗")
    return FAILED


def leaves(group: ExceptionGroup[Exception]) -> tuple[Exception, ...]:
    """Return the errors in a group and the groups in it."""
    found: list[Exception] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, ExceptionGroup) else [error]
    return tuple(found)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--events", type=int, default=7_000)
    parser.add_argument("--seconds", type=int, default=24, help="how long devices send")
    parser.add_argument("--kill-after", type=float, default=9.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--pinpoint", action="store_true", help="clients of Pinpoint, the gateway and its stream"
    )
    parser.add_argument("--without-kafka", action="store_true", help="as if there were no Java")
    parser.add_argument(
        "--bootstrap",
        metavar="HOST:PORT",
        default=scene.own_broker(),
        help="a broker of your own; the demo removes its topics from it "
        "(default: $KAFKA_BOOTSTRAP_SERVERS)",
    )
    return parser.parse_args()


def obey_signals() -> None:
    """Let every signal that ends a program end this one as Ctrl-C does: cleared away."""

    def interrupt(_: int, __: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    # A shell starts what runs in its background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def quiet_libraries() -> None:
    """Keep the clients' complaints about brokers that come and go off the screen."""
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def perform(args: argparse.Namespace, screen: Screen) -> int:
    """Show it all; return the exit code."""
    if args.pinpoint:
        return OK if pinpoint.perform(screen, args.bootstrap, args.seconds) else FAILED
    load = Load(args.seed, args.devices, args.events, args.seconds, args.kill_after)
    with scene.prepared(screen, args.bootstrap, without_kafka=args.without_kafka) as prepared:
        story = Story(prepared, screen, load)
        told = story.with_kafka() if prepared.has_kafka else story.from_file()
        figures = asyncio.run(told)
        if figures.exemplar is not None:
            screen.batch(figures.exemplar)
        screen.verdict(figures)
    return OK if figures.ok else FAILED


if __name__ == "__main__":
    sys.exit(main())
