"""What may happen to each source, as commands of its sandbox. A new source is one entry of WAYS.

Values are few, so that edits meet each other. Dates are days of `life.MONTHS`, around their ends.
"""

from typing import Any

from life import Command, Edit, Records, Ways

_DAYS = ("2026-05-02", "2026-05-31", "2026-06-30")
_NEW = ("2026-05-30", "2026-06-01")


# -- Salesforce ----------------------------------------------------------------------------------


def _opportunity(field: str) -> Any:
    def command(records: Records, number: int, value: Any) -> Command | None:
        one = records.document(number)
        fields = {"object": "Opportunity", "fields": {field: value}}
        return {"op": "edit", "id": one.id, **fields} if one else None

    return command


def _opportunity_line(field: str) -> Any:
    return lambda records, number, value: {
        "op": "edit",
        "object": "OpportunityLineItem",
        "id": records.line(number),
        "fields": {field: value},
    }


SALESFORCE = Ways(
    "salesforce",
    {
        "stage": Edit(("Closed Won", "Negotiation"), _opportunity("StageName")),
        "date": Edit(_DAYS, _opportunity("CloseDate")),
        "price": Edit(("0", "17.25", "-3.5"), _opportunity_line("UnitPrice")),
        "term": Edit((None, 1, 36), _opportunity_line("Term__c")),
        "rename": Edit(
            ("Ironbridge & Sons", "Zephyr SA"),
            lambda records, number, name: {
                "op": "edit",
                "object": "Account",
                "id": records.customer(number),
                "fields": {"Name": name},
            },
        ),
        "remove_line": Edit(
            (True, False),
            lambda records, number, hard: {
                "op": "delete",
                "object": "OpportunityLineItem",
                "id": records.line(number),
                "hard": hard,
            },
        ),
        "remove": Edit(
            (None,),
            lambda records, number, _: (
                (one := records.document(number))
                and {"op": "delete", "object": "Opportunity", "id": one.id}
            ),
        ),
        "restore": Edit(
            (None,),
            lambda records, number, _: (
                (one := records.removed(number))
                and {"op": "undelete", "object": one.object, "id": one.id}
            ),
        ),
        "create": Edit(
            _NEW,
            lambda _, __, day: {
                "op": "add",
                "object": "Opportunity",
                "fields": {"Name": "New", "StageName": "Closed Won", "CloseDate": day},
            },
        ),
    },
    faults=("429", "500", "html", "reset", "truncate", "session"),
)

# -- Stripe --------------------------------------------------------------------------------------


def _invoice(op: str) -> Any:
    """Stripe's verbs."""

    def command(records: Records, number: int, _: Any) -> Command | None:
        one = records.document(number, "invoice")
        return {"op": op, "object": "invoice", "id": one.id} if one else None

    return command


STRIPE = Ways(
    "stripe",
    {
        "create": Edit(
            (-500, 0, 12_345),
            lambda records, number, amount: {
                "op": "add",
                "object": "invoice",
                "fields": {
                    "amount": amount,
                    "customer": "northwind",
                    "product": "SEAT",
                    "created": 1_780_000_000 + number * 86_400,  # the end of May 2026
                    "seed": records.new_name(),
                },
            },
        ),
        "delete_draft": Edit((None,), _invoice("delete")),
        "finalize": Edit((None,), _invoice("finalize")),
        "pay": Edit((None,), _invoice("pay")),
        "void": Edit((None,), _invoice("void")),
        "mark_uncollectible": Edit((None,), _invoice("mark_uncollectible")),
        "credit": Edit(
            ("1", "0.5", "0.3333"),
            lambda records, number, share: (
                (one := records.document(number, "invoice"))
                and {
                    "op": "add",
                    "object": "credit_note",
                    "id": one.id,
                    "fields": {"share": share},
                }
            ),
        ),
        "void_credit_note": Edit(
            (None,),
            lambda records, number, _: (
                (one := records.document(number, "credit_note"))
                and {"op": "void_credit_note", "id": one.id}
            ),
        ),
    },
    faults=("429", "500", "html", "reset", "truncate", "lock_timeout"),
    # In an account that is upgraded, events serve as answers.
    accounts=((), ({"op": "upgrade"},)),
)

WAYS = {ways.source: ways for ways in (SALESFORCE, STRIPE)}
