"""`revrec matches`: suggestions, approval, and the file that keeps it."""

from command_line import Home, Synced


def test_suggestions_name_both_customers_and_how_to_approve_them(first_sync: Synced) -> None:
    found = first_sync.home.json("matches")
    assert found["suggested"]
    assert found["approved"] == []
    first = found["suggested"][0]

    shown = first_sync.home.run("matches").stdout

    assert (
        f"revrec matches approve {first['source']}:{first['customer_id']} "
        f"{first['order_source']}:{first['order_customer_id']} --reason TEXT"
    ) in shown
    unmatched = {error["record_id"] for error in first_sync.home.json("errors")}
    assert sum(row["invoices"] for row in found["suggested"] + found["unmatched"]) <= len(unmatched)


def test_an_approved_match_is_kept_beside_the_settings_and_applied_at_once(synced: Home) -> None:
    first = synced.json("matches")["suggested"][0]
    billed = f"{first['source']}:{first['customer_id']}"
    ordered = f"{first['order_source']}:{first['order_customer_id']}"
    before = [e for e in synced.json("errors") if e["code"] == "SYNC_UNMATCHED_INVOICE"]

    home = synced.with_env(REVREC_USER="ada")
    home.run("matches", "approve", billed, ordered, "--reason", "one firm")

    heading, line = (home.folder / "matches.csv").read_text(encoding="utf-8").splitlines()
    assert heading.startswith("source,customer_id,order_source,order_customer_id,")
    assert line.startswith(f"{billed.replace(':', ',')},{ordered.replace(':', ',')},")
    assert line.endswith(",one firm")
    assert ",ada," in line
    found = home.json("matches")
    assert first["customer_id"] not in [row["customer_id"] for row in found["suggested"]]
    assert found["approved"][0]["approved_by"] == "ada"
    after = [e for e in home.json("errors") if e["code"] == "SYNC_UNMATCHED_INVOICE"]
    assert len(after) == len(before) - first["invoices"]


def test_a_customer_that_nobody_knows_is_refused(first_sync: Synced) -> None:
    known = first_sync.home.json("matches")["suggested"][0]
    billed = f"{known['source']}:{known['customer_id']}"
    approve = ("matches", "approve")
    assert first_sync.home.refuses(*approve, "stripe", "salesforce:1") == (
        "'stripe' is no customer; write it like stripe:cus_1"
    )
    assert first_sync.home.refuses(*approve, billed, "salesforce:nobody") == (
        "salesforce:nobody: no delivered orders have this customer"
    )
    assert not (first_sync.home.folder / "matches.csv").exists()
