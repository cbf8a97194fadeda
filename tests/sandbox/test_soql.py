"""SOQL: what the sandbox answers and what it refuses, as the vendor does."""

import re
from typing import Any

import pytest

from revrec_pipeline.sandbox import salesforce_wire as wire
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.salesforce_org import Org
from revrec_pipeline.sandbox.salesforce_schema import schema
from revrec_pipeline.sandbox.soql import SoqlError, translate


@pytest.fixture
def org() -> Org:
    org = Org(Clock())
    acme = org.insert("Account", {"Name": "Acme"})
    for name, stage, close, account, amount in [
        ("Alpha", "Closed Won", "2026-01-31", acme, 100),
        ("beta", "Closed Lost", "2026-02-01", acme, 250.5),
        ("Gamma's", "Negotiation", "2026-02-28", None, None),
        ("Delta", "Closed Won", "2026-03-01", None, 7),
    ]:
        fields = {"Name": name, "StageName": stage, "CloseDate": close, "AccountId": account}
        org.insert("Opportunity", {**fields, "Amount": amount})
    org.delete("Opportunity", org.find("Opportunity", "Name", "Delta"), hard=False)
    line = {"Quantity": 1, "UnitPrice": 100, "CurrencyIsoCode": "USD"}
    alpha, beta = (org.find("Opportunity", "Name", name) for name in ("Alpha", "beta"))
    org.insert("OpportunityLineItem", {**line, "OpportunityId": alpha})
    later = {"OpportunityId": beta, "UnitPrice": 250.5, "ServiceDate": "2026-05-01"}
    org.insert("OpportunityLineItem", {**line, **later})
    return org


def _names(org: Org, where: str, *, deleted: bool = False) -> list[Any]:
    soql = f"SELECT Name FROM Opportunity {where} {'' if 'ORDER' in where else 'ORDER BY Name'}"
    statement = translate(soql, schema(), deleted=deleted)
    return [
        wire.record(statement, row)["Name"] for row in org.select(statement.sql, statement.values)
    ]


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("", ["Alpha", "beta", "Gamma's"]),
        ("WHERE CloseDate >= 2026-02-01 AND CloseDate < 2026-03-01", ["beta", "Gamma's"]),
        ("WHERE IsWon = true", ["Alpha"]),
        ("WHERE IsWon = FALSE AND IsClosed = true", ["beta"]),
        ("WHERE NOT StageName IN ('Closed Won', 'Closed Lost')", ["Gamma's"]),
        ("WHERE StageName NOT IN ('Closed Won', 'Closed Lost')", ["Gamma's"]),
        ("WHERE Name = 'ALPHA' OR (Name LIKE 'be%' AND Amount > 250)", ["Alpha", "beta"]),
        (r"WHERE Name = 'Gamma\'s'", ["Gamma's"]),
        ("WHERE Account.Name = 'Acme'", ["Alpha", "beta"]),
        ("WHERE Account.Name != 'Acme'", ["Gamma's"]),
        ("WHERE AccountId = null", ["Gamma's"]),
        ("WHERE Amount <> NULL ORDER BY Amount DESC LIMIT 1", ["beta"]),
        ("ORDER BY Amount NULLS LAST", ["Alpha", "beta", "Gamma's"]),
        ("WHERE Id IN (SELECT OpportunityId FROM OpportunityLineItem)", ["Alpha", "beta"]),
        (
            "WHERE Id NOT IN (SELECT OpportunityId FROM OpportunityLineItem"
            " WHERE ServiceDate > 2026-01-01)",
            ["Alpha", "Gamma's"],
        ),
        ("WHERE SystemModstamp > 2020-01-01T00:00:00Z AND Name = 'Alpha'", ["Alpha"]),
        ("WHERE SystemModstamp < 2020-01-01T00:00:00.000+00:00", []),
    ],
)
def test_a_condition_selects_the_records_that_the_vendor_would(
    org: Org, where: str, names: list[str]
) -> None:
    assert _names(org, where) == names


def test_query_all_also_finds_deleted_records_airbyte_10155(org: Org) -> None:
    assert _names(org, "", deleted=True) == ["Alpha", "beta", "Delta", "Gamma's"]
    assert _names(org, "WHERE IsDeleted = true", deleted=False) == []


def test_a_record_nests_its_parents_and_has_null_for_a_missing_one(org: Org) -> None:
    soql = "SELECT Opportunity.Account.Name, Quantity FROM OpportunityLineItem LIMIT 1"
    statement = translate(soql, schema(), deleted=True)
    (row,) = org.select(statement.sql, statement.values)
    record = wire.record(statement, row)
    assert record["Quantity"] == 1.0
    assert record["attributes"]["type"] == "OpportunityLineItem"
    assert record["Opportunity"]["attributes"]["type"] == "Opportunity"
    assert record["Opportunity"]["Account"]["Name"] == "Acme"
    soql = "SELECT Account.Name FROM Opportunity WHERE AccountId = null"
    statement = translate(soql, schema(), deleted=False)
    (row,) = org.select(statement.sql, statement.values)
    assert wire.record(statement, row)["Account"] is None


@pytest.mark.parametrize(
    ("soql", "code", "part"),
    [
        ("SELECT Id FROM Opportunity WHERE", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT FROM Opportunity", "MALFORMED_QUERY", "unexpected token: 'Opportunity'"),
        ("SELECT * FROM Opportunity", "MALFORMED_QUERY", "unexpected token: '*'"),
        (
            "SELECT Id FROM Opportunity WHERE IsWon = true AND IsClosed = true OR Amount > 1",
            "MALFORMED_QUERY",
            "unexpected token: 'OR'",
        ),
        ("SELECT Id FROM Opportunity__x", "INVALID_TYPE", "'Opportunity__x' is not supported"),
        ("SELECT Id, Foo__c FROM Opportunity", "INVALID_FIELD", "No such column 'Foo__c'"),
        ("SELECT Id, Akount.Name FROM Opportunity", "INVALID_FIELD", "relationship 'Akount'"),
        ("SELECT Id, Name, id FROM Opportunity", "INVALID_FIELD", "duplicate field selected: Id"),
        (
            "SELECT Id FROM Opportunity WHERE CloseDate > '2026-01-01'",
            "INVALID_FIELD",
            "must be of type date and should not be enclosed in quotes",
        ),
        (
            "SELECT Id FROM Opportunity WHERE SystemModstamp > 2026-01-01",
            "INVALID_FIELD",
            "must be of type dateTime",
        ),
        (
            "SELECT Id FROM Opportunity WHERE StageName = Won",
            "MALFORMED_QUERY",
            "unexpected token: 'Won'",
        ),
        (
            "SELECT Id FROM Opportunity WHERE StageName = 5",
            "INVALID_FIELD",
            "should be enclosed in quotes",
        ),
        (
            "SELECT Id FROM Opportunity WHERE Id IN (SELECT Name FROM Account)",
            "MALFORMED_QUERY",
            "semi join",
        ),
        ("SELECT COUNT() FROM Opportunity ORDER BY Name", "MALFORMED_QUERY", "Ordering"),
    ],
)
def test_a_wrong_query_is_refused_with_the_vendors_code(soql: str, code: str, part: str) -> None:
    with pytest.raises(SoqlError, match=re.escape(part)) as caught:
        translate(soql, schema(), deleted=False)
    assert caught.value.code == code


def test_currency_iso_code_is_an_invalid_field_in_a_single_currency_org() -> None:
    soql = "SELECT Id, CurrencyIsoCode FROM Opportunity"
    single = schema(hidden=["CurrencyIsoCode"])
    with pytest.raises(SoqlError, match="No such column 'CurrencyIsoCode'") as caught:
        translate(soql, single, deleted=True)
    assert caught.value.code == "INVALID_FIELD"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (12.0, "12.0"),
        (-0.5, "-0.5"),
        (9999999.99, "9999999.99"),
        (12345678.0, "1.2345678E7"),
        (10000000.0, "1.0E7"),
        (-25000000.5, "-2.50000005E7"),
        (0.0125, "0.0125"),
        (0.00012, "1.2E-4"),
    ],
)
def test_csv_writes_a_double_as_java_does(value: float, text: str) -> None:
    assert wire.java_double(value) == text
