"""How Stripe filters and pages its lists."""

from revrec_pipeline.sandbox.stripe_objects import Object
from revrec_pipeline.sandbox.stripe_params import Parameters, StripeError


def page(everything: list[Object], asked: Parameters, noun: str) -> tuple[list[Object], bool]:
    """The objects asked for, and whether there are more in that direction.

    A cursor may be any object that exists, also one that the filters leave out by now.
    """
    places = {one["id"]: number for number, one in enumerate(everything)}
    after, before = asked.filters.get("starting_after"), asked.filters.get("ending_before")
    for name, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor is not None and cursor not in places:
            message = f"No such {noun}: '{cursor}'"
            raise StripeError(400, message, code="resource_missing", param=name)
    first = places[after] + 1 if after is not None else 0
    last = places[before] if before is not None else len(everything)
    found = [one for one in everything[first:last] if _matches(one, asked)]
    shown = found[: asked.limit] if before is None else found[-asked.limit :]
    return shown, len(found) > len(shown)


def _matches(one: Object, asked: Parameters) -> bool:
    """Whether an object passes all filters."""
    kinds = asked.lists.get("types")
    return (
        all(one.get(name) is not None and asked.within(name, one[name]) for name in asked.ranges)
        and (kinds is None or one["type"] in kinds)
        and all(_equal(one, name, value) for name, value in asked.filters.items())
    )


def _equal(one: Object, name: str, value: str) -> bool:
    match name:
        case "starting_after" | "ending_before":
            return True
        case "status" if one["object"] == "subscription":
            return value in {"all", one["status"]}
        case "subscription":
            parent = one["parent"]
            return bool(parent) and parent["subscription_details"]["subscription"] == value
        case _:
            return str(one.get(name)).lower() == value.lower()
