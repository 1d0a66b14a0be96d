"""Tables and texts for people fit 120 columns, and what is cut keeps both its ends."""

from forwarder.cli import output
from forwarder.cli.output import WIDTH

LONG = "events-" + "x" * 200


def test_long_texts_are_cut_in_their_middle_and_numbers_never() -> None:
    rows = [(f"{LONG}/{n}", 10**15 + n, f"worker-{LONG}-{n}") for n in range(3)]
    text = output.format_table(("PARTITION", "READ", "OWNER"), rows, WIDTH)
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    for n, line in enumerate(lines[1:]):
        assert line.startswith("events-x")
        assert f"…{'x' * 5}" in line
        assert f"/{n}  {10**15 + n}  worker-events" in line
        assert line.endswith(f"x-{n}")


def test_what_fits_is_left_as_it_is() -> None:
    rows = [("raw-events/0", 1, "me")]
    assert output.format_table(("A", "B", "C"), rows) == output.format_table(
        ("A", "B", "C"), rows, WIDTH
    )


def test_columns_that_cannot_be_cut_pass_the_limit_rather_than_lie() -> None:
    rows = [tuple("9" * 30 for _ in range(6))]
    assert "9" * 30 in output.format_table(tuple("ABCDEF"), rows, WIDTH)


def test_texts_are_wrapped_between_words() -> None:
    lines = output.wrap_text(f"{'word ' * 60}{LONG} end").splitlines()
    assert [LONG] == [line.strip() for line in lines if len(line) > WIDTH]
