"""What people see: a live table on a terminal, plain lines of progress elsewhere."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tests.demo.figures import Arrived, Book, Figures, Tally
from tests.demo.layout import Number, folded

PLAIN_WIDTH = 100
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
                self.show(figures)
            finally:
                self._live = None

    def show(self, figures: Figures) -> None:
        """Bring the screen up to date."""
        if self._live is not None:
            self._live.update(self._tables(figures), refresh=True)
        elif self._elapsed() - self._last_line >= PLAIN_EVERY:
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
        letters = f"{figures.malformed} malformed records sent, {figures.dead_letters} dead letters"
        self.say(letters, "✓" if figures.malformed == figures.dead_letters else "✗")
        repeated = sum(tally.repeated for tally in figures.tallies())
        if repeated:
            self.say(
                f"{repeated} records came twice: put, but not yet noted as put when the worker was "
                "killed. A repeat has the same bytes and the same message_id.",
                "✓",
            )
        if figures.ok:
            self.say("Nothing lost, nothing altered, no event in two batches.", "✓")
        else:
            self.say("This is not as it has to be: please report it.", "✗")

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _tables(self, figures: Figures) -> RenderableType:
        head = Text.assemble((f"\n{self._elapsed():5.1f} s  ", "dim"), (self.phase, "bold cyan"))
        sent = Text(
            f"         sent {figures.events:,} events in {figures.uploads:,} uploads "
            f"of {len(figures.senders):,} devices",
            style="dim",
        )
        return Group(head, sent, "", streams_table(figures), recent_table(figures))


def make_console() -> Console:
    """Return the console of standard output, of a fixed width where that is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def progress(figures: Figures) -> str:
    """Return one line on how far everything is."""
    parts = [f"{b.shown.name} {len(b.batches):,}" for b in figures.books.values()]
    return (
        f"{figures.events:,} events sent; batches in the stream: {', '.join(parts)}; "
        f"{figures.missing:,} events on their way"
    )


def streams_table(figures: Figures) -> Table:
    """Return what the streams hold so far, a row for each connection."""
    table = _table("In the streams")
    for name in ("batches", "events", "devices", "per batch", "on the way", "behind"):
        table.add_column(name, justify="right", no_wrap=True)
    for book in figures.books.values():
        table.add_row(*_row(book))
    return table


def _row(book: Book) -> tuple[RenderableType, ...]:
    count = len(book.batches)
    name = Text.assemble((book.shown.name, "bold"), "\n", (book.shown.about, "dim"))
    if not count:
        return (name, "0", "0", "0", "", f"{book.missing:,}", "")
    return (
        name,
        f"{count:,}",
        f"{len(book.arrived):,}",
        f"{len(book.devices):,}",
        f"{len(book.arrived) / count:.1f} ≤ {book.largest}",
        f"{book.missing:,}",
        f"{median(book.latest) / 1000:.1f} s",
    )


def recent_table(figures: Figures) -> Table:
    """Return the latest batches, the newest first."""
    table = _table("Latest batches")
    table.add_column("user", no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column("app", no_wrap=True)
    table.add_column("events", justify="right")
    table.add_column("of these types", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("bytes", justify="right", no_wrap=True)
    for arrived in figures.recent:
        table.add_row(
            arrived.connection,
            _user(arrived),
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
    table = _table("Tally, in events; judged from what was sent and what the streams hold")
    for name in ("sent", "delivered", "lost", "altered", "invented", "in two batches"):
        table.add_column(name, justify="right")
    table.add_column("records", justify="right")
    table.add_column("repeated", justify="right")
    for tally in tallies:
        wrong = (tally.lost, tally.altered, tally.invented, tally.doubled)
        table.add_row(
            Text(tally.connection, "bold"),
            f"{tally.sent:,}",
            f"{tally.delivered:,}",
            *(Text(f"{number:,}", "bold red" if number else "green") for number in wrong),
            f"{tally.records:,}",
            f"{tally.repeated:,}",
        )
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.expand = True
    table.add_column("connection", min_width=13)
    return table
