"""Whatever the sources send comes back from both formats as it went in."""

import re
import tempfile
from decimal import Decimal
from pathlib import Path

from canonical_rows import billing_line, order_line
from conversion_files import column, read_archive, read_workbook, write
from hypothesis import given, settings
from hypothesis import strategies as st

# Any Unicode but control characters, which the file drops, and surrogates, which Arrow refuses.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")),
    st.sampled_from(
        ["NA", "null", "0012", "=1+1", "+", "-1", "@x", " a ", "a\tb\nc", "_x0041_", "TRUE", "1e5"]
    ),
)
IDS = st.from_regex(r"[0-9A-Za-z_:.-]{1,20}", fullmatch=True)
# 12 digits before the point, and the decimals of JPY, USD and KWD.
AMOUNTS = st.one_of(
    st.decimals(-999_999_999_999, 999_999_999_999, places=places) for places in (0, 2, 3)
)
RATES = st.decimals(-9_999_999, 9_999_999, places=8)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(IDS, TEXTS, st.none() | TEXTS, AMOUNTS, RATES, st.none() | RATES)))
def test_text_ids_amounts_and_empty_cells_come_back_from_both_formats(
    rows: list[tuple[str, str, str | None, Decimal, Decimal, Decimal | None]],
) -> None:
    sales, invoices = [], []
    for place, (id_, text, optional, amount, rate, optional_rate) in enumerate(rows):
        sales.append(
            order_line(
                f"{place:04}",
                product_code=id_,
                order_name=text,
                product_family=optional,
                unit_price=rate,
                list_price=optional_rate,
            )
        )
        invoices.append(billing_line(f"{place:04}", invoice_number=id_, amount=amount))
    with tempfile.TemporaryDirectory() as folder:
        names = ["a.xlsx", "a.zip"]
        workbook, archive = write(Path(folder), names, sales=sales, invoices=invoices)
        book, texts = read_workbook(workbook), read_archive(archive)
    for sheet, header, expected in (
        ("OrderDetails", "Product Code", [row[0] for row in rows]),
        ("OrderDetails", "Order Name", [row[1] for row in rows]),
        ("OrderDetails", "Product Family", [row[2] or "" for row in rows]),
        ("BillingSchedule", "Invoice Number", [row[0] for row in rows]),
    ):
        assert [unescaped(cell) for cell in column(book, sheet, header)] == expected
        assert column(texts, sheet, header) == expected
    for sheet, header, values in (
        ("OrderDetails", "Unit Price", [row[4] for row in rows]),
        ("OrderDetails", "List Price", [row[5] for row in rows]),
        ("BillingSchedule", "Amount", [row[3] for row in rows]),
    ):
        assert [number(cell) for cell in column(book, sheet, header)] == values
        assert [number(cell) for cell in column(texts, sheet, header)] == values


def unescaped(cell: str | None) -> str:
    """A workbook's text as Excel shows it: `_x0041_` stands for a character (openpyxl keeps it)."""
    return re.sub("_x([0-9A-F]{4})_", lambda code: chr(int(code[1], 16)), cell or "")


def number(cell: object) -> Decimal | None:
    """A cell of either format as an exact number."""
    assert not isinstance(cell, bool)
    return Decimal(str(cell)) if cell not in (None, "") else None
