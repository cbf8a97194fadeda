"""Stripe's products, prices, subscriptions and account as the API shows them."""

from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.stripe_data import (
    SUBSCRIPTIONS,
    Subscription,
    at,
    billing_dates,
    unit_price,
)
from revrec_pipeline.sandbox.stripe_objects import (
    ACCOUNT,
    ACCOUNT_NAME,
    Object,
    decimal_text,
    list_object,
    object_id,
    price_id,
)
from revrec_pipeline.sandbox.stripe_store import customer_id

_FOUNDED = at(2024, 11, 4)
#: Fields of a subscription that the company makes no use of.
_UNUSED = (
    "application",
    "application_fee_percent",
    "billing_cycle_anchor_config",
    "billing_mode",
    "billing_schedules",
    "billing_thresholds",
    "cancel_at",
    "customer_account",
    "days_until_due",
    "default_payment_method",
    "default_source",
    "invoice_settings",
    "latest_invoice",
    "managed_payments",
    "next_pending_invoice_item_invoice",
    "on_behalf_of",
    "pause_collection",
    "payment_settings",
    "pending_invoice_item_interval",
    "pending_setup_intent",
    "pending_update",
    "transfer_data",
)


def account() -> Object:
    """The account that the key belongs to."""
    return {
        "id": ACCOUNT,
        "object": "account",
        "business_profile": {"name": ACCOUNT_NAME, "url": "https://fernhill.example"},
        "charges_enabled": True,
        "country": "US",
        "created": _FOUNDED,
        "default_currency": company.HOME_CURRENCY.lower(),
        "details_submitted": True,
        "email": "finance@fernhill.example",
        "payouts_enabled": True,
        "settings": {
            "dashboard": {"display_name": ACCOUNT_NAME, "timezone": company.TIMEZONE},
        },
        "type": "standard",
    }


def products() -> list[Object]:
    """The catalogue, newest first."""
    return [
        {
            "id": product.code,
            "object": "product",
            "active": True,
            "created": _FOUNDED + number,
            "default_price": price_id(product.code, "usd"),
            "description": None,
            "images": [],
            "livemode": False,
            "marketing_features": [],
            "metadata": {},
            "name": product.name,
            "package_dimensions": None,
            "shippable": None,
            "statement_descriptor": None,
            "tax_code": None,
            "type": "service",
            "unit_label": None,
            "updated": _FOUNDED + number,
            "url": None,
        }
        for number, product in reversed(list(enumerate(company.PRODUCTS)))
    ]


def price(code: str, currency: str) -> Object:
    """A product's recurring price in a currency."""
    unit = unit_price(code, currency)
    return {
        "id": price_id(code, currency.lower()),
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": _FOUNDED,
        "currency": currency.lower(),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "product": code,
        "recurring": {
            "interval": "month",
            "interval_count": 1,
            "meter": None,
            "trial_period_days": None,
            "usage_type": "licensed",
        },
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring",
        "unit_amount": int(unit) if unit == int(unit) else None,
        "unit_amount_decimal": decimal_text(unit),
    }


def prices() -> list[Object]:
    """Every product in every currency."""
    return [
        price(product.code, currency)
        for product in company.PRODUCTS
        for currency in company.PRICE_FACTORS
    ]


def subscriptions() -> list[Object]:
    """All subscriptions, newest first."""
    newest_first = sorted(SUBSCRIPTIONS, key=lambda one: one.start, reverse=True)
    return [_subscription(one) for one in newest_first]


def _subscription(one: Subscription) -> Object:
    customer = company.customer(one.customer)
    *_, (start, end) = billing_dates(one)
    created = at(*one.start, one.hour, 30)
    items: list[Object] = [
        {
            "id": object_id("si", one.id, code),
            "object": "subscription_item",
            "billing_thresholds": None,
            "created": created,
            "current_period_end": end,
            "current_period_start": start,
            "discounts": [],
            "metadata": {},
            "price": price(code, customer.currency),
            "quantity": quantity,
            "subscription": one.id,
            "tax_rates": [],
        }
        for code, quantity in one.items
    ]
    url = f"/v1/subscription_items?subscription={one.id}"
    return {
        "id": one.id,
        "object": "subscription",
        **dict.fromkeys(_UNUSED),
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": created,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "default_tax_rates": [],
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "cancel_at_period_end": False,
        "canceled_at": None,
        "collection_method": "charge_automatically",
        "created": created,
        "currency": customer.currency.lower(),
        "customer": customer_id(customer),
        "description": None,
        "discounts": [],
        "ended_at": None,
        "items": list_object(url, items, has_more=False, total=len(items)),
        "livemode": False,
        "metadata": {"order_number": one.order_number} if one.order_number else {},
        "schedule": None,
        "start_date": created,
        "status": "active",
        "test_clock": None,
        "trial_end": None,
        "trial_start": None,
    }
