"""What may happen to each source, as commands of its sandbox. A new source is one entry of WAYS.

Values are few, so that edits meet each other. Days are in `life.MONTHS`, around their ends.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from life import Command, Edit, Records, Ways
from life import Record as Named

from revrec_pipeline.mapping.quickbooks import FORMS

DAYS = ("2026-05-02", "2026-05-31", "2026-06-30")
NEW = ("2026-05-30", "2026-06-01")
NONE = (None,)
MINUTE = 60

#: What a value adds to a command.
Given = Callable[[Any], Mapping[str, Any]]
Made = Callable[[Records, int, Any], Command | None]


def field(name: str) -> Given:
    """The value is that of a field."""
    return lambda value: {"fields": {name: value}}


def named(name: str) -> Given:
    """The value is a parameter of the command."""
    return lambda value: {name: value}


def nothing(_: Any) -> Mapping[str, Any]:
    """The value says nothing."""
    return {}


def on(op: str, *objects: str, given: Given = nothing) -> Made:
    """A command on a document, of one of these objects."""

    def command(records: Records, number: int, value: Any) -> Command | None:
        one = records.document(number, *objects)
        return {"op": op, "object": one.object, "id": one.id, **given(value)} if one else None

    return command


def on_removed(op: str, *objects: str) -> Made:
    """A command on what was deleted, of one of these objects."""

    def command(records: Records, number: int, _: Any) -> Command | None:
        one = records.removed(number, *objects)
        return {"op": op, "object": one.object, "id": one.id} if one else None

    return command


def on_line(op: str, object_: str, given: Given) -> Made:
    """A command on a line."""
    return lambda records, number, value: {
        "op": op,
        "object": object_,
        "id": records.line(number),
        **given(value),
    }


def on_customer(op: str, given: Given, **more: Any) -> Made:
    """A command on a customer."""
    return lambda records, number, value: {
        "op": op,
        **more,
        "id": records.customer(number),
        **given(value),
    }


def make(object_: str, given: Given, *, name: str = "number", **more: Any) -> Made:
    """A new document, whose field `name` nobody else has."""

    def command(records: Records, _: int, value: Any) -> Command:
        rest = dict(given(value))
        fields = {name: records.new_name(), **rest.pop("fields", {})}
        return {"op": "add", "object": object_, "fields": fields, **more, **rest}

    return command


def _noon(day: str) -> int:
    return int(datetime.fromisoformat(f"{day}T16:00:00").replace(tzinfo=UTC).timestamp())


SALESFORCE = Ways(
    "salesforce",
    {
        # What a sync has seen go comes back.
        "restore": Edit(NONE, on_removed("undelete", "Opportunity", "OpportunityLineItem")),
        "create": Edit(
            NEW,
            make(
                "Opportunity",
                lambda day: {"fields": {"StageName": "Closed Won", "CloseDate": day}},
                name="Name",
            ),
        ),
        "stage": Edit(
            ("Closed Won", "Negotiation"), on("edit", "Opportunity", given=field("StageName"))
        ),
        "date": Edit(DAYS, on("edit", "Opportunity", given=field("CloseDate"))),
        "price": Edit(
            ("0", "17.25", "-3.5"), on_line("edit", "OpportunityLineItem", field("UnitPrice"))
        ),
        "term": Edit((None, 1, 36), on_line("edit", "OpportunityLineItem", field("Term__c"))),
        "rename": Edit(
            ("Ironbridge & Sons", "Zephyr SA"),
            on_customer("edit", field("Name"), object="Account"),
        ),
        "remove_line": Edit((True, False), on_line("delete", "OpportunityLineItem", named("hard"))),
        "remove": Edit(NONE, on("delete", "Opportunity")),
    },
    late=35 * MINUTE,
    faults=("429", "500", "html", "reset", "truncate", "session"),
    named=lambda row: Named("Opportunity", row["document_id"]),
)

STRIPE = Ways(
    "stripe",
    {
        "create": Edit(
            tuple((day, amount) for day in NEW for amount in (-500, 0, 12_345)),
            make(
                "invoice",
                lambda made: {
                    "fields": {
                        "created": _noon(made[0]),
                        "amount": made[1],
                        "customer": "northwind",
                        "product": "SEAT",
                    }
                },
                name="seed",
            ),
        ),
        "delete_draft": Edit(NONE, on("delete", "invoice")),
        "finalize": Edit(NONE, on("finalize", "invoice")),
        "pay": Edit(NONE, on("pay", "invoice")),
        "void": Edit(NONE, on("void", "invoice")),
        "mark_uncollectible": Edit(NONE, on("mark_uncollectible", "invoice")),
        "credit": Edit(
            ("1", "0.5", "0.3333"),
            on(
                "add",
                "invoice",
                given=lambda share: {"object": "credit_note", "fields": {"share": share}},
            ),
        ),
        "void_credit_note": Edit(NONE, on("void_credit_note", "credit_note")),
    },
    late=61 * MINUTE,
    faults=("429", "500", "html", "reset", "truncate", "lock_timeout"),
    # In an account that is upgraded, events serve as answers.
    accounts=((), ({"op": "upgrade"},)),
)

HUBSPOT = Ways(
    "hubspot",
    {
        # Changes no stamp.
        "restore": Edit(NONE, on_removed("restore", "deals"), silent=True),
        "create": Edit(
            NEW,
            make(
                "deals",
                lambda day: {"fields": {"dealstage": "closedwon", "closedate": f"{day}T16:00:00Z"}},
                name="dealname",
            ),
        ),
        "add_line": Edit(
            ("12.50", "0"),
            lambda records, number, price: (
                (deal := records.document(number))
                and {
                    "op": "add",
                    "object": "line_items",
                    "fields": {"deal": deal.id, "name": "Seats", "quantity": "3", "price": price},
                }
            ),
        ),
        "stage": Edit(("closedlost", "closedwon"), on("edit", "deals", given=field("dealstage"))),
        "date": Edit(
            DAYS,
            on("edit", "deals", given=lambda day: {"fields": {"closedate": f"{day}T16:00:00Z"}}),
        ),
        "price": Edit(("0", "17.25", None), on_line("edit", "line_items", field("price"))),
        "rename": Edit(
            ("Ironbridge & Sons", "Zephyr SA"),
            on_customer("edit", field("name"), object="companies"),
        ),
        "product": Edit(
            ("Seats", "Licences"),
            lambda records, number, name: {
                "op": "edit",
                "object": "products",
                "id": records.product(number),
                "fields": {"name": name},
            },
        ),
        "remove_line": Edit(NONE, on_line("delete", "line_items", nothing)),
        "remove": Edit(NONE, on("delete", "deals")),
        # Gone at once and without a word.
        "purge": Edit(NONE, on("purge", "deals"), silent=True),
        "merge": Edit(
            (1, 3),
            lambda records, number, further: (
                (winner := records.document(number))
                and (loser := records.document(number + further))
                and {"op": "merge", "object": "deals", "id": winner.id, "loser": loser.id}
            ),
        ),
    },
    late=(24 * 60 + 15) * MINUTE,
    faults=("429", "500", "502", "html", "reset", "truncate", "207_partial"),
    settings="requests_per_second = 1000\nsearches_per_second = 1000\n",
    # The search index may lag behind the records.
    accounts=((), ({"op": "index_lag", "seconds": 600},)),
    line_object="line_items",
    named=lambda row: Named("deals", row["document_id"]),
)

CHARGEBEE = Ways(
    "chargebee",
    {
        "create": Edit(
            tuple((day, status) for status in ("payment_due", "pending") for day in NEW),
            make(
                "invoice",
                lambda made: {
                    "fields": {
                        "date": _noon(made[0]),
                        "status": made[1],
                        "amount": 12_345,
                        "customer": "northwind",
                    }
                },
                name="id",
            ),
        ),
        "create_pending": Edit(
            NEW,
            make(
                "invoice",
                lambda day: {
                    "fields": {
                        "date": _noon(day),
                        "status": "pending",
                        "amount": 500,
                        "customer": "zephyr",
                    }
                },
                name="id",
            ),
        ),
        # Closing a pending invoice may move it into another month.
        "close": Edit(DAYS[1:], on("close", "invoice", given=lambda day: {"date": _noon(day)})),
        "pay": Edit(NONE, on("pay", "invoice")),
        "credit": Edit(
            tuple((share, day) for share in ("1", "0.3333") for day in DAYS[1:]),
            on(
                "add",
                "invoice",
                given=lambda credit: {
                    "object": "credit_note",
                    "fields": {"share": credit[0], "date": _noon(credit[1])},
                },
            ),
        ),
        "refund": Edit(NONE, on("refund", "credit_note")),
        "void": Edit(NONE, on("void")),
        "remove": Edit(NONE, on("delete")),
    },
    late=15 * MINUTE,
    faults=("429", "500", "502", "503", "html", "reset", "truncate", "lock_timeout"),
    settings="requests_per_minute = 100000\n",
)

XERO = Ways(
    "xero",
    {
        "create": Edit(
            tuple((day, draft) for draft in (True, False) for day in NEW),
            make(
                "invoice",
                lambda made: {
                    "fields": {
                        "date": made[0],
                        "draft": made[1],
                        "amount": "123.45",
                        "customer": "northwind",
                        "lines": 2,
                    }
                },
            ),
        ),
        "create_note": Edit(
            NEW,
            make(
                "credit_note",
                lambda day: {
                    "fields": {
                        "date": day,
                        "type": "ACCRECCREDIT",
                        "amount": "50.00",
                        "customer": "northwind",
                    }
                },
            ),
        ),
        "delete_draft": Edit(NONE, on("delete")),
        "authorise": Edit(NONE, on("authorise")),
        "date": Edit(DAYS, on("edit", given=field("Date"))),
        "line": Edit(
            ("Other words", "Again"),
            on(
                "edit",
                given=lambda text: {
                    "fields": {"lines": {"1": {"Description": text, "ItemCode": "00420"}}}
                },
            ),
        ),
        # An edit that sends the lines back without their ids gives all of them new ones.
        "new_lines": Edit(NONE, on("edit", given=lambda _: {"fields": {"new_line_ids": True}})),
        "allocate": Edit(
            ("10.00", "50.00"),
            lambda records, number, amount: (
                (note := records.document(number, "credit_note"))
                and (invoice := records.document(number, "invoice"))
                and {"op": "allocate", "id": note.id, "invoice": invoice.id, "amount": amount}
            ),
        ),
        "unallocate": Edit(NONE, on("unallocate", "credit_note")),
        "pay": Edit(NONE, on("pay", "invoice")),
        "void": Edit(NONE, on("void")),
    },
    late=11 * MINUTE,
    faults=("429", "500", "html", "reset", "truncate", "concurrent", "401"),
    settings="requests_per_minute = 100000\n",
)

_ENTITY = {form.prefix: form.entity for form in FORMS.values()}


def _sales_form(row: Any) -> Named:
    prefix, _, number = row["document_id"].partition("-")
    return Named(_ENTITY[prefix], number)


QUICKBOOKS = Ways(
    "quickbooks",
    {
        **{
            f"create_{name}": Edit(
                NEW,
                make(form.entity, lambda day: {"fields": {"day": day, "amount": "123.45"}}),
            )
            for name, form in FORMS.items()
        },
        "date": Edit(DAYS, on("edit", given=field("TxnDate"))),
        "replace": Edit(
            tuple((day, lines) for day in NEW for lines in (2, 1)),
            on(
                "replace",
                given=lambda made: {
                    "fields": {"day": made[0], "lines": made[1], "amount": "77.70"}
                },
            ),
        ),
        "void": Edit((False, True), on("void", given=named("keep_amounts"))),
        "remove": Edit(NONE, on("delete")),
    },
    late=15 * MINUTE + 30,
    faults=("429", "429_xml", "500", "403_throttle", "html", "reset", "truncate", "401"),
    settings="requests_per_second = 1000\n",
    accounts=((), ({"op": "tokens", "rotate_every": 0},)),
    named=_sales_form,
)

_NETSUITE_TYPES = ("CustInvc", "CashSale", "CustCred", "CashRfnd")


def _transaction(given: Given) -> Made:
    def command(records: Records, _: int, value: Any) -> Command:
        sold = [["SEAT", 2, "40.00"], ["TRAINING", 1, "1500.00"]]
        return {
            "op": "add",
            "object": "",
            "number": records.new_name(),
            "customer": "northwind",
            "lines": sold,
            **given(value),
        }

    return command


NETSUITE = Ways(
    "netsuite",
    {
        "create": Edit(
            tuple((kind, day) for kind in _NETSUITE_TYPES for day in NEW),
            _transaction(lambda made: {"type": made[0], "day": made[1]}),
        ),
        # Imports may leave no stamps: no window has such a document.
        "create_unstamped": Edit(
            NEW, _transaction(lambda day: {"day": day, "unstamped": True}), silent=True
        ),
        "date": Edit(DAYS, on("edit", given=field("trandate"))),
        "status": Edit(("D", "A"), on("edit", given=field("status"))),
        # A line's own stamp moves, the header's does not.
        "line": Edit(
            (-50.0, 0.0),
            on(
                "edit_line",
                given=lambda amount: {
                    "position": 0,
                    "fields": {"foreignamount": amount, "netamount": amount},
                },
            ),
        ),
        "quantity": Edit(
            (-5.0, -1.0),
            on(
                "edit_line",
                given=lambda units: {"position": 0, "fields": {"quantity": units}},
            ),
        ),
        "remove_line": Edit((0, 1), on("delete_line", given=named("position"))),
        "rename": Edit(
            ("Ironbridge & Sons", "Zephyr SA"),
            on_customer("edit_master", field("companyname"), table="customer"),
        ),
        "product": Edit(
            ("Seats", "Licences"),
            lambda _, number, name: {
                "op": "edit_master",
                "table": "item",
                "id": 11 + number,
                "fields": {"displayname": name},
            },
        ),
        "void": Edit(NONE, on("void")),
        "reverse": Edit(
            DAYS[1:], on("reverse", given=lambda day: {"day": day, "object": "journal"})
        ),
        "remove": Edit(NONE, on("delete")),
        # Ids of other record types may be equal to ours.
        "remove_other": Edit(
            NONE,
            on("deletion", given=lambda _: {"script": "customlist", "type": "CustomList"}),
        ),
    },
    late=125 * MINUTE,
    faults=("429", "limit", "500", "503", "html", "reset", "truncate", "401"),
    # Stamps are on the clocks of the integration's user.
    accounts=((), ({"op": "configure", "zone": "America/Los_Angeles"},)),
    named=lambda row: Named("", row["document_id"]),
)

SAGE_INTACCT = Ways(
    "sage_intacct",
    {
        "create": Edit(
            tuple((day, edited) for edited in (False, True) for day in NEW),
            make(
                "ARINVOICE",
                lambda made: {
                    "fields": {
                        "date": made[0],
                        "edited": made[1],
                        "amount": "123.45",
                        "customer": "northwind",
                        "lines": 2,
                    }
                },
            ),
        ),
        "create_adjustment": Edit(
            NEW,
            make(
                "ARADJUSTMENT",
                lambda day: {"fields": {"date": day, "amount": "-50.00", "customer": "northwind"}},
            ),
        ),
        "date": Edit(DAYS, on("edit", given=field("WHENCREATED"))),
        "state": Edit(
            ("Draft", "Posted"),
            on("edit", "ARINVOICE", given=field("STATE")),
        ),
        "line": Edit(
            ("50.00", "0"),
            on_line(
                "edit",
                "ARINVOICEITEM",
                lambda amount: {"fields": {"AMOUNT": amount, "TRX_AMOUNT": amount}},
            ),
        ),
        # The order that an invoice is of was edited: it comes back under another RECORDNO.
        "edit_order": Edit(("0.5", "2"), on("edit_order", "ARINVOICE", given=named("factor"))),
        "reverse": Edit(DAYS[1:], on("reverse", "ARINVOICE", given=named("on"))),
        "remove": Edit(NONE, on("delete", "ARINVOICE")),
        # The audit history does not know adjustments.
        "remove_adjustment": Edit(NONE, on("delete", "ARADJUSTMENT"), silent=True),
    },
    late=270 * MINUTE,
    faults=("429", "500", "GW-0010", "html", "reset", "truncate", "session"),
    accounts=((), ({"op": "user", "fields": {"offset": 5.5}},)),
    named=lambda row: Named(
        "ARINVOICE" if row["document_type"] == "invoice" else "ARADJUSTMENT", row["document_id"]
    ),
)

WAYS = {
    ways.source: ways
    for ways in (
        SALESFORCE,
        HUBSPOT,
        CHARGEBEE,
        XERO,
        QUICKBOOKS,
        NETSUITE,
        STRIPE,
        SAGE_INTACCT,
    )
}
