"""What people see: a live table on a terminal, plain lines of progress elsewhere."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tests.demo.figures import Arrived, Book, Figures, Tally
from tests.demo.layout import Number, folded

PLAIN_WIDTH = 100
WIDE = 100
"""Columns from which on there is room for more than the main things."""

PLAIN_EVERY = 3.0
"""Seconds between two lines of progress where there is no terminal."""

MARKS = {"✓": "green", "!": "yellow", "✗": "red", "▸": "cyan"}


class Screen:
    """The demo's output."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to ``console``, by default to standard output."""
        self.console = console or make_console()
        self.phase = ""
        self._live: Live | None = None
        self._begun = time.monotonic()
        self._last_line = 0.0

    def title(self) -> None:
        """Say what this is."""
        self.console.print()
        self.console.print("[bold]forwarder[/bold]: app events from Kafka into Kinesis, a demo")
        self.console.print()

    @contextmanager
    def step(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Show that something is being done; the caller tells what was."""
        with self.console.status(doing):
            yield lambda done: self.say(done, mark="✓")

    def say(self, text: str, mark: str = "▸") -> None:
        """Write one lasting line."""
        line = Text.assemble((f"{mark} ", MARKS[mark]), text)
        self.console.print(line, soft_wrap=not self.console.is_terminal)

    def happen(self, text: str, mark: str = "▸") -> None:
        """Write one lasting line with the time since the traffic began."""
        self.say(f"{self._elapsed():4.1f} s  {text}", mark)

    @contextmanager
    def live(self, figures: Figures) -> Iterator[None]:
        """Keep the tables on the screen while something happens."""
        self._begun = time.monotonic()
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, vertical_overflow="crop") as live:
            self._live = live
            try:
                yield
                self.phase = "done"
                self.show(figures)
            finally:
                self._live = None

    def show(self, figures: Figures) -> None:
        """Bring the screen up to date."""
        if self._live is not None:
            self._live.update(self._tables(figures), refresh=True)
        elif not self.console.is_terminal and self._elapsed() - self._last_line >= PLAIN_EVERY:
            self._last_line = self._elapsed()
            self.happen(progress(figures))

    def batch(self, arrived: Arrived) -> None:
        """Show one batch in full."""
        self.console.print()
        title = f"One batch in full, as it is in the stream {arrived.connection}"
        if not self.console.is_terminal:
            self.console.print(f"{title}:")
            self.console.print(
                folded(arrived.document, PLAIN_WIDTH), markup=False, highlight=False, soft_wrap=True
            )
            return
        text = folded(arrived.document, max(40, self.console.width - 4))
        shown = Syntax(text, "json", theme="ansi_dark", word_wrap=True, background_color="default")
        self.console.print(Panel(shown, title=title, title_align="left", border_style="dim"))

    def verdict(self, figures: Figures) -> None:
        """Show what was sent and what became of it."""
        self.console.print()
        self.console.print(tally_table(figures.tallies()))
        self.console.print()
        letters = f"{figures.malformed} malformed records sent, {figures.dead_letters} dead letters"
        self.say(letters, "✓" if figures.malformed == figures.dead_letters else "✗")
        repeated = sum(tally.repeated for tally in figures.tallies())
        if repeated:
            self.say(
                f"{repeated} records came again: put, and not yet noted as put, when -9 struck",
                "✓",
            )
        if figures.ok:
            self.say("nothing lost, nothing altered, no event in two batches", "✓")
        else:
            self.say("this is not as it has to be: please report it", "✗")

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _tables(self, figures: Figures) -> RenderableType:
        head = Text.assemble(
            ("\n▸ ", "cyan"), (f"{self._elapsed():4.1f} s  ", ""), (self.phase, "cyan")
        )
        bar = Table.grid(padding=(0, 1))
        sent = f"{figures.events:,} of {figures.planned:,} events sent"
        devices = f"by {len(figures.senders):,} devices"
        bar.add_row(
            "  ",
            ProgressBar(figures.planned, figures.events, 20, complete_style="cyan"),
            sent,
            devices,
        )
        wide = self.console.width >= WIDE
        tables = (streams_table(figures, wide=wide), recent_table(figures, wide=wide))
        return Group(head, bar, "", *tables)


def make_console() -> Console:
    """Return the console of standard output, of a fixed width where that is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def progress(figures: Figures) -> str:
    """Return one line on how far everything is."""
    parts = [
        f"{book.shown.name} {len(book.arrived):,} of {len(book.expected):,}"
        for book in figures.books.values()
    ]
    return f"{figures.events:,} events sent; in the streams: {', '.join(parts)}"


def streams_table(figures: Figures, *, wide: bool) -> Table:
    """Return what the streams hold so far, a row for each connection."""
    table = _table("In the streams")
    if wide:
        table.add_column("batched", no_wrap=True)
    for name in ("batches", "events", "devices", "per batch", "on the way", "delay"):
        table.add_column(name, justify="right", no_wrap=True)
    for book in figures.books.values():
        table.add_row(*_row(book, wide=wide, timed=figures.timed))
    return table


def _row(book: Book, *, wide: bool, timed: bool) -> tuple[RenderableType, ...]:
    count = len(book.batches)
    mean = f"{len(book.arrived) / count:.1f}" if count else ""
    return (
        Text(book.shown.name, "bold"),
        *((Text(f"by {book.shown.unit}", "dim"),) if wide else ()),
        f"{count:,}",
        f"{len(book.arrived):,}",
        f"{len(book.devices):,}",
        f"{mean}, max {book.largest}" if count and wide else mean,
        f"{book.missing:,}",
        f"{book.delay:.1f} s" if count and timed else "",
    )


def recent_table(figures: Figures, *, wide: bool) -> Table:
    """Return the latest batches of each connection."""
    table = _table("Latest batches")
    if wide:
        table.add_column("user", no_wrap=True)
    table.add_column("app", no_wrap=True)
    table.add_column("events", justify="right")
    table.add_column("of these types", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("bytes", justify="right", no_wrap=True)
    for arrived in (arrived for book in figures.books.values() for arrived in book.recent):
        table.add_row(
            arrived.connection,
            *((_user(arrived),) if wide else ()),
            _application(arrived),
            f"{len(arrived.types):,}",
            _types(arrived.types),
            f"{len(arrived.value):,}",
        )
    return table


def _user(arrived: Arrived) -> str:
    mpid = arrived.document.get("mpid", "")
    return mpid.digits if isinstance(mpid, Number) else str(mpid)


def _application(arrived: Arrived) -> str:
    package: str = arrived.document["application_info"]["package"]
    platform: str = arrived.document.get("device_info", {}).get("platform", "server")
    return f"{package.rpartition('.')[2]} {platform}"


def _types(types: list[str]) -> str:
    counted = Counter(types)
    return ", ".join(name if n == 1 else f"{n} {name}" for name, n in counted.items())


def tally_table(tallies: list[Tally]) -> Table:
    """Return sent, delivered, lost and repeated, a row for each connection."""
    table = _table("Tally of events, from what was sent and what the streams hold")
    table.caption = (
        "sent: what its settings keep of the uploads that match the connection; twice: in two "
        "batches; repeated: batches that came again, the same bytes with the same message_id"
    )
    table.caption_justify = "left"
    for name in ("sent", "delivered", "lost", "altered", "extra", "twice", "repeated"):
        table.add_column(name, justify="right", no_wrap=True)
    for tally in tallies:
        wrong = (tally.lost, tally.altered, tally.extra, tally.twice)
        table.add_row(
            Text(tally.connection, "bold"),
            f"{tally.sent:,}",
            f"{tally.delivered:,}",
            *(Text(f"{number:,}", "bold red" if number else "green") for number in wrong),
            f"{tally.repeated:,}",
        )
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.expand, table.pad_edge = True, False
    table.add_column("connection", min_width=13, no_wrap=True)
    return table
