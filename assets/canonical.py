"""Canonical assets: `<source>/sales`, `<source>/invoices`, one month at a time.

A step builds the month from what has landed, reports the checks, and puts the batch into the
ledger's outbox. It calls no API. What a rule says is in `revrec_pipeline.checks`.
"""

from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from assets.context import failing_loudly, is_dry_run, open_jobs
from resources.stores import LakeResource, LedgerResource
from revrec_pipeline import canonical, checks
from revrec_pipeline.canonical import Built
from revrec_pipeline.codes import CONTROL_DIFFERENCE, of_check, page_of, pages
from revrec_pipeline.conversion.template import load_template
from revrec_pipeline.hand_over import hand_over
from revrec_pipeline.ledger import cursors, sync_errors
from revrec_pipeline.ledger.job_view import amount_text
from revrec_pipeline.mapping import Source
from revrec_pipeline.model import CANONICAL, MEANINGS, ROWS_NAME, RecordType, Severity
from revrec_pipeline.preview import preview
from revrec_pipeline.settings import Settings

#: Failing rows shown in the UI; the ledger and errors.parquet hold all of them.
_SHOWN = 50


def canonical_months(
    source: Source,
    record_type: RecordType,
    settings: Settings,
    months: dg.PartitionsDefinition[str],
) -> dg.AssetsDefinition:
    """The asset `<source>/<record type>` with its checks."""
    key = dg.AssetKey([source.name, str(record_type)])
    rows = ROWS_NAME[record_type]

    @dg.asset(
        key=key,
        group_name=source.name,
        partitions_def=months,
        deps=[dg.AssetKey(["raw", source.name, name]) for name in source.objects],
        check_specs=[
            dg.AssetCheckSpec(
                name,
                asset=key,
                # The check's first page shows the month that was built last, whichever it is.
                description=f"{description} The tab Partitions shows each month.",
                blocking=name in _BLOCKING,
                # Without it the last month's result hides all others (dagster #17005).
                partitions_def=months,
            )
            for name, description in checks.CHECKS.items()
        ],
        description=f"{source.title} {rows} of the month: checked, complete documents only. "
        "Incomplete ones are held back as sync errors until they are mended in the source.",
        kinds={source.name, "parquet", "pandera"},
        owners=list(settings.site.owners),
        tags={
            "revrec/source": source.name,
            "revrec/record_type": str(record_type),
            "revrec/layer": "canonical",
        },
        metadata={"dagster/column_schema": _column_schema(record_type)},
        code_version="1",
    )
    def build_month(
        context: dg.AssetExecutionContext, lake: LakeResource, ledger: LedgerResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the annotation
        period = context.partition_key
        opened = open_jobs(ledger, context.run, source, [record_type], period)
        with failing_loudly(context, ledger, source, opened, period):
            with ledger.open().transaction() as tx:
                waivers = sync_errors.waivers(
                    tx, source=source.name, record_type=record_type, period=period
                )
            built = canonical.build(
                lake.open(),
                source,
                record_type,
                period,
                settings.source(source.name),
                settings.mapping_site(),
                waivers.errors,
            )
            for job_id in opened.values():
                with ledger.open().transaction() as tx:
                    hand_over(tx, built, source, record_type, period, job_id, context.run.run_id)
                    if not built.faulty:
                        cursors.clear(tx, source.name, period, waivers.asked_by)
        metadata = _metadata(lake, built, record_type)
        if is_dry_run(context.run):
            metadata |= _would_change(lake, ledger, source, record_type, period, built)
        return dg.MaterializeResult(
            metadata=metadata,
            data_version=dg.DataVersion(built.content_hash),
            check_results=[_check_result(name, built, record_type) for name in checks.CHECKS],
        )

    return build_month


#: What these find is a fault of ours, not of a row: nothing of the month is delivered.
_BLOCKING = ("schema", "complete")


def _check_result(name: str, built: Built, record_type: RecordType) -> dg.AssetCheckResult:
    if name == "complete":
        return dg.AssetCheckResult(
            check_name=name,
            passed=not built.lost,
            metadata={"lost_documents": list(built.lost[:_SHOWN])},
        )
    if name == "controls" and built.damaged:
        return _damaged(built)
    codes = set(of_check(name))
    # Commissions must have a rate, orders may lack a list price: one check, other severities.
    rules = [checks.CODES[code] for code in codes & checks.codes_of(record_type)]
    warns = bool(rules) and all(rule.severity is Severity.WARNING for rule in rules)
    severity = dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR
    failed = built.failed_rows.get(name, 0)
    if not failed:
        return dg.AssetCheckResult(
            check_name=name, passed=True, severity=severity, metadata={"failing_rows": 0}
        )
    shown = pc.is_in(built.errors["code"], pa.array(list(codes)))
    errors = built.errors.filter(shown).slice(0, _SHOWN).to_pylist()
    links = {error["record_id"]: error["url"] for error in errors if error["url"]}
    first = {"first_record": dg.MetadataValue.url(next(iter(links.values())))} if links else {}
    return dg.AssetCheckResult(
        check_name=name,
        passed=False,
        severity=severity,
        description=f"{'1 row fails' if failed == 1 else f'{failed} rows fail'}; the first: "
        f"{errors[0]['message']}",
        metadata={
            "failing_rows": failed,
            "rows": _table(errors, ("field", "message", "record_id", "line_id", "code")),
            **first,
            "links": dg.MetadataValue.md(
                "\n".join(f"* [{record}]({url})" for record, url in links.items()) or "no links"
            ),
            "how_to_fix": ", ".join(pages(error["code"] for error in errors)),
        },
    )


def _damaged(built: Built) -> dg.AssetCheckResult:
    """Raw pages are not as they landed: nothing of the month goes out until they are."""
    return dg.AssetCheckResult(
        check_name="controls",
        passed=False,
        description=f"{built.damaged[0]}; nothing of this month is delivered until the lake's file "
        "is restored or the month is synced again",
        metadata={
            "damaged": _table(
                [
                    {
                        "landing": each.landing,
                        "object": each.object,
                        "what": each.what,
                        "records": ", ".join(each.records[:_SHOWN]),
                    }
                    for each in built.damaged
                ],
                ("landing", "object", "what", "records"),
            ),
            "how_to_fix": page_of(CONTROL_DIFFERENCE),
        },
    )


def _would_change(
    lake: LakeResource,
    ledger: LedgerResource,
    source: Source,
    record_type: RecordType,
    period: str,
    built: Built,
) -> dict[str, Any]:
    """What a delivery of the month would do: the result of a run with the tag of a dry run."""
    found = preview(ledger.open(), lake.open(), source.name, record_type, {period: built.path})
    return {
        f"would_change_{name}": _table(
            table.slice(0, _SHOWN).to_pylist(), tuple(table.schema.names)
        )
        for name, table in (
            ("documents", found.documents),
            ("fields", found.fields),
            ("totals", found.totals),
        )
    }


_BUCKETS = ("source", "flagged", "excluded", "own_total")


#: Who and what, before how much and where, in the preview.
_PREVIEWED = {
    RecordType.SALES: ("customer_name", "product_code"),
    RecordType.INVOICES: ("customer_name", "product_code"),
    RecordType.COMMISSIONS: ("payee_name", "order_number"),
}


def _metadata(lake: LakeResource, built: Built, record_type: RecordType) -> dict[str, Any]:
    totals = sorted(
        _readable(built.totals.to_pylist()),
        key=lambda row: (_BUCKETS.index(row["bucket"]), row["rule"], row["currency"]),
    )
    rows = {
        bucket: sum(row["rows"] for row in totals if row["bucket"] == bucket) for bucket in _BUCKETS
    }
    return {
        "dagster/partition_row_count": rows["source"],
        "flagged_rows": rows["flagged"],
        "excluded_rows": rows["excluded"],
        "documents_with_own_total": rows["own_total"],
        "control_totals": _table(totals, ("bucket", "rule", "currency", "rows", "amount")),
        "preview": _table(
            _readable(built.preview.to_pylist()),
            (*_PREVIEWED[record_type], "amount", "currency", "document_id", "line_id"),
        ),
        "path": dg.MetadataValue.path(str(lake.open().root / built.path)),
        "batch": str(built.path),
        "content_sha256": built.content_hash,
    }


def _readable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with amounts as people write them: 310350 JPY, not 310350.0000."""
    return [
        row | {"amount": amount_text([row["amount"]], row["currency"])}
        if row["amount"] is not None and row["currency"]
        else row
        for row in rows
    ]


def _table(rows: list[dict[str, object]], columns: tuple[str, ...]) -> dg.TableMetadataValue:
    """Rows as a table in the UI, all cells as text: Dagster would turn a decimal into a float."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _cell(row[name]) for name in columns}) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name, "string") for name in columns]),
    )


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _column_schema(record_type: RecordType) -> dg.TableSchema:
    """The columns, each with its name in the template; `required` is what a check insists on."""
    required = {
        name for name, column in checks.SCHEMAS[record_type].columns.items() if not column.nullable
    }
    sheet = load_template().sheet_of(record_type)
    headers = {column.canonical: column.header for column in sheet.columns}
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                str(column.type),
                description=f"{sheet.name}: {headers[column.name]}"
                if column.name in headers
                else MEANINGS.get(column.name),
                constraints=dg.TableColumnConstraints(
                    other=["required"] if column.name in required else []
                ),
            )
            for column in CANONICAL[record_type]
        ]
    )
