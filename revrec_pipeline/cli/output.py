"""How commands print: tables for people, one JSON document for programs."""

import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

#: No line is folded when the output goes into a pipe or a file.
_PIPE_WIDTH = 10_000


def print_json(document: Any) -> None:
    """One JSON document and nothing else."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns aligned, numbers to the right; on a narrow terminal, text folds between words."""
    for line in _lines(headings, rows, fold=True):
        click.echo(line)


def print_table_with_notes(
    headings: Sequence[str], rows: Iterable[tuple[Sequence[object], str]]
) -> None:
    """A table in which a line of text stands below each row."""
    listed = list(rows)
    heading, *lines = _lines(headings, [cells for cells, _ in listed], fold=False)
    click.echo(heading)
    for line, (cells, note) in zip(lines, listed, strict=True):
        click.echo(line)
        print_note(note, max(len(headings[0]), len(_cell(cells[0]))) + 2)


def print_note(text: str, indent: int) -> None:
    """Text that belongs to the line above; on a terminal, a long one folds between words."""
    # An identifier or a URL that is longer than the terminal is wide stays in one piece.
    folded = textwrap.wrap(text, _width() - indent, break_long_words=False, break_on_hyphens=False)
    for line in folded:
        click.echo(" " * indent + line)


def counted(number: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _lines(headings: Sequence[str], rows: Iterable[Sequence[object]], *, fold: bool) -> list[str]:
    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        numeric = bool(cells) and all(_is_number(row[index]) for row in cells if row[index])
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=not fold)
    for row in cells:
        table.add_row(*(Text(value) for value in row))
    console = Console(width=_PIPE_WIDTH, highlight=False)
    needed = Measurement.get(console, console.options, table)
    # Where this is wider than the terminal, the terminal breaks the line; rich would shorten words.
    console.width = max(_width(), needed.minimum if fold else needed.maximum)
    with console.capture() as printed:
        console.print(table)
    # rich fills the last column up to its width.
    return [line.rstrip() for line in printed.get().splitlines()]


def _width() -> int:
    return Console().width if sys.stdout.isatty() else _PIPE_WIDTH


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).removeprefix("-").isdigit()


def _cell(value: object) -> str:
    return "" if value is None else str(value)
