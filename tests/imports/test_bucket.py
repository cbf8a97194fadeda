"""A watched folder on `s3://`, against a server that speaks the protocol and checks credentials."""

import json
import logging
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from batches import Books
from moto.server import ThreadedMotoServer

from revrec_pipeline.errors import SettingsError
from revrec_pipeline.imports.bucket import Bucket
from revrec_pipeline.imports.folder import Taken, take_files
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import imports, open_ledger
from revrec_pipeline.settings import Settings

ROWS = (
    "Product Code,Customer ID,Billing Date,Invoice Number,Amount,Currency\n"
    "P1,C1,2026-01-05,I1,100,USD\n"
)
READS = ["s3:ListBucket", "s3:GetObject"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The origin of an S3 server."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def storage(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the empty server, which trusts everybody; the environment names it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-ada")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server)
    # Requests that may still come without being checked; more than any test makes.
    requests.post(f"{server}/moto-api/reset-auth", data=b"1000000", timeout=10)
    requests.post(f"{server}/moto-api/reset", timeout=10)
    client = boto3.client("s3")
    client.create_bucket(Bucket="books")
    yield client
    requests.post(f"{server}/moto-api/reset-auth", data=b"1000000", timeout=10)


@pytest.fixture
def strict(
    storage: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str]], dict[str, str]]:
    """Makes a user who may do these things, and from then on has every request checked."""

    def checked(allowed: list[str]) -> dict[str, str]:
        iam = boto3.client("iam", endpoint_url=server)
        iam.create_user(UserName="eve")
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}],
        }
        iam.put_user_policy(UserName="eve", PolicyName="p", PolicyDocument=json.dumps(policy))
        key = dict(iam.create_access_key(UserName="eve")["AccessKey"])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        requests.post(f"{server}/moto-api/reset-auth", data=b"0", timeout=10)
        return key

    return checked


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(open_ledger(f"duckdb:///{tmp_path / 'ledger.duckdb'}"), tmp_path / "lake")


def archive(**members: str) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as container:
        for name, text in members.items():
            container.writestr(f"{name}.csv", text)
    return content.getvalue()


def put(storage: Any, key: str, content: bytes) -> None:
    storage.put_object(Bucket="books", Key=key, Body=content)


def take(books: Books, folder: str = "s3://books/in") -> list[Taken]:
    return list(take_files(books.ledger, Lake(books.lake), Settings(), folder))


def keys(storage: Any) -> list[str]:
    """All objects but the empty ones that stand for a folder."""
    found = storage.list_objects_v2(Bucket="books").get("Contents", [])
    return [each["Key"] for each in found if not each["Key"].endswith("/")]


def refusal(books: Books, folder: str = "s3://books/in") -> str:
    with pytest.raises(SettingsError) as refused:
        take(books, folder)
    return str(refused.value)


def test_each_object_is_taken_once_by_content_and_moved_with_a_report(
    storage: Any, books: Books
) -> None:
    good = archive(BillingSchedule=ROWS)
    put(storage, "in/good.zip", good)
    put(storage, "in/twin.zip", good)
    put(storage, "in/bad.zip", archive(Notes="a\n1\n"))
    put(storage, "in/~$good.xlsx", b"")
    put(storage, "in/deeper/other.zip", good)
    taken = take(books)
    assert sorted((each.file, each.refused, len(each.job_ids)) for each in taken) == [
        ("bad.zip", True, 0),
        ("good.zip", False, 1),
        ("twin.zip", False, 0),
    ]
    moved = {each.file: each.moved_to.removeprefix("s3://books/") for each in taken}
    assert sorted(keys(storage)) == sorted(
        ["in/deeper/other.zip", "in/~$good.xlsx"]
        + [name for each in moved.values() for name in (each, f"{each}.txt")]
    )
    assert moved["good.zip"].startswith("in/done/good-")
    report = storage.get_object(Bucket="books", Key=f"{moved['bad.zip']}.txt")["Body"].read()
    assert b"IN_UNKNOWN_SHEET" in report
    assert storage.get_object(Bucket="books", Key=moved["good.zip"])["Body"].read() == good
    assert take(books) == []


def test_the_whole_bucket_may_be_the_folder_and_may_be_empty(storage: Any, books: Books) -> None:
    assert take(books, "s3://books") == []
    assert take(books, "s3://books/nothing/here") == []
    put(storage, "good.zip", archive(BillingSchedule=ROWS))
    (taken,) = take(books, "s3://books/")
    assert taken.moved_to.startswith("s3://books/done/good-")


def test_an_object_that_was_replaced_while_it_was_imported_waits_for_the_next_look(
    storage: Any, books: Books, tmp_path: Path
) -> None:
    put(storage, "in/a.zip", b"old")
    folder = Bucket("s3://books/in")
    assert folder.fetch("a.zip", tmp_path, 100)
    put(storage, "in/a.zip", b"newer")
    assert folder.move("a.zip", "done", "a-1.zip", "taken") == "s3://books/in/a.zip"
    assert folder.waiting(0) == ["a.zip"]
    assert folder.fetch("gone.zip", tmp_path, 100) is None
    del books


def test_content_that_another_process_imports_stays_and_an_object_too_large_is_not_fetched(
    storage: Any, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive(BillingSchedule=ROWS)
    put(storage, "in/a.zip", content)
    monkeypatch.setattr("revrec_pipeline.imports.folder.MAX_FILE", len(content))
    put(storage, "in/large.zip", content + b"more")

    def busy(*_: Any, **__: Any) -> None:
        raise imports.ContentBusyError("the same content is being imported by ada")

    monkeypatch.setattr(imports, "claim", busy)
    (taken,) = take(books)
    assert (taken.file, taken.refused) == ("large.zip", True)
    assert "more than" in taken.report
    assert "in/a.zip" in keys(storage)


def test_a_bucket_that_is_not_there_is_named(storage: Any, books: Books) -> None:
    del storage
    assert "there is no bucket no-books" in refusal(books, "s3://no-books/in")


def test_an_endpoint_that_is_none_or_does_not_answer_is_named(
    storage: Any, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    del storage
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert "cannot be reached" in refusal(books)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "s3.example.com")
    assert "AWS_ENDPOINT_URL is no URL" in refusal(books)


def test_wrong_credentials_are_told_from_missing_permissions_and_never_shown(
    strict: Callable[[list[str]], dict[str, str]], books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = strict(READS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    wrong = refusal(books)
    assert "credentials were refused (SIGNATURE_DOES_NOT_MATCH)" in wrong
    assert "not-the-secret" not in wrong
    assert key["AccessKeyId"] not in wrong
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "credentials were refused (INVALID_ACCESS_KEY_ID)" in refusal(books)


def test_who_may_not_list_or_not_write_is_told_which_permissions_are_needed(
    strict: Callable[[list[str]], dict[str, str]], storage: Any, books: Books
) -> None:
    put(storage, "in/a.zip", archive(BillingSchedule=ROWS))
    strict(READS)
    message = refusal(books)
    assert "is not allowed; the credentials need s3:ListBucket, s3:GetObject" in message
    # What was imported before the move failed is not imported again at the next look.
    assert len(books.files(1)) == 0
    assert "is not allowed" in refusal(books)
    with books.ledger.transaction() as tx:
        assert tx.one("SELECT count(*) AS n FROM imported_file") == {"n": 1}
