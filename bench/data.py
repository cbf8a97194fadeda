"""The data set: invoices of 2 to 4 KB as Stripe prints them, five lines each on average.

One invoice in a hundred has 25 lines, of which the list inside it shows ten; the others make up for
it, so that 100,000 invoices have 500,000 lines. Written once into a folder:

    records.bin    each invoice as the API shows it, one after the other
    lines.bin      for each long invoice, its page of all lines
    full.ndjson    each invoice on one line with all of its lines: what the floor reads
    index.npy      where each record ends
    span           the seconds over which the invoices are spread
"""

import json
from decimal import Decimal
from pathlib import Path

import numpy as np

FIRST_CREATED = 1735689600  # 2025-01-01T00:00:00Z
SPAN = 120 * 86400  # January to April 2025
YEAR = 365 * 86400
SHOWN_LINES = 10


def invoice_id(number: int) -> str:
    """Ids sort as the invoices do."""
    return f"in_{number:010d}"


def created(number: int, total: int, span: int) -> int:
    """Invoices are spread evenly."""
    return FIRST_CREATED + number * span // total


def line_count(number: int) -> int:
    """25 for one in a hundred, else 4 or 5, so that a hundred invoices have 500 lines."""
    place = number % 100
    if place == 0:
        return 25
    return 4 if place <= 20 else 5


def _line(number: int, place: int) -> dict[str, object]:
    amount = 1000 + (number * 31 + place * 7) % 90000
    start = FIRST_CREATED + (number % 28) * 86400
    return {
        "id": f"il_{number:010d}{place:02d}",
        "object": "line_item",
        "amount": amount,
        "discount_amounts": [{"amount": amount // 10, "discount": "di_1"}] if place == 1 else [],
        "invoice": invoice_id(number),
        "period": {"end": start + 2678400, "start": start},
        "pricing": {
            "price_details": {
                "price": f"price_{place}",
                "product": f"prod_{(number + place) % 40}",
            },
            "unit_amount_decimal": str(amount),
        },
        "quantity": 1,
        "quantity_decimal": "1",
        "taxes": [],
    }


def _invoice(number: int, at: int, lines: list[dict[str, object]], *, more: bool) -> object:
    return {
        "id": invoice_id(number),
        "object": "invoice",
        "collection_method": "charge_automatically",
        "created": at,
        "currency": "usd",
        "customer": f"cus_{number % 5000:06d}",
        "customer_name": f"Customer {number % 5000}",
        "effective_at": at,
        "livemode": False,
        "metadata": {},
        "number": f"A-{number:08d}",
        "parent": {
            "subscription_details": {"metadata": {}, "subscription": f"sub_{number % 5000}"}
        },
        "status": "paid",
        "status_transitions": {"finalized_at": at, "paid_at": at, "voided_at": None},
        "total": sum(int(str(line["amount"])) for line in lines),
        "lines": {
            "object": "list",
            "data": lines[:SHOWN_LINES] if more else lines,
            "has_more": more,
            "total_count": len(lines),
        },
    }


def net_total(total: int) -> Decimal:
    """What all lines amount to after discounts, in dollars."""
    cents = 0
    for number in range(total):
        for place in range(line_count(number)):
            amount = 1000 + (number * 31 + place * 7) % 90000
            cents += amount - (amount // 10 if place == 1 else 0)
    return Decimal(cents) / 100


def write(folder: Path, total: int, span: int = SPAN) -> None:
    """Write the data set, unless it is there."""
    done = folder / f"{total}.done"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    ends, line_ends = [], []
    with (
        (folder / "records.bin").open("wb") as records,
        (folder / "lines.bin").open("wb") as long,
        (folder / "full.ndjson").open("w") as full,
    ):
        for number in range(total):
            at = created(number, total, span)
            lines = [_line(number, place) for place in range(line_count(number))]
            more = len(lines) > SHOWN_LINES
            records.write(_printed(_invoice(number, at, lines, more=more)))
            ends.append(records.tell())
            if more:
                page = {"object": "list", "data": lines, "has_more": False}
                long.write(json.dumps(page, indent=2).encode())
                line_ends.append(long.tell())
            whole = _invoice(number, at, lines, more=False)
            full.write(json.dumps(whole, separators=(",", ":")) + "\n")
    np.save(folder / "index.npy", np.array(ends, dtype=np.int64))
    np.save(folder / "line_index.npy", np.array(line_ends, dtype=np.int64))
    (folder / "span").write_text(str(span))
    done.touch()


def _printed(record: object) -> bytes:
    """As Stripe prints it: two spaces a level."""
    return json.dumps(record, indent=2).encode()
