"""The standing check: what is broken right now, as one asset that is red while anything is."""

import dagster as dg

from resources.stores import LedgerResource
from revrec_pipeline.ledger import standing
from revrec_pipeline.settings import Settings

HEALTH = "health"
CHECK = "nothing_is_broken"
_COLUMNS = ("what", "source", "record_type", "period", "job_id", "since", "message")
#: Rows shown in the UI; `revrec broken` prints all.
_SHOWN = 100


def health_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `health`, which a schedule looks after every hour."""

    @dg.asset(
        name=HEALTH,
        group_name="delivery",
        description="Failed months, and whatever waits for longer than it should: red while there "
        "is any. `revrec broken` prints the same.",
        check_specs=[
            dg.AssetCheckSpec(CHECK, asset=HEALTH, description="No month has failed; none waits.")
        ],
        owners=list(settings.site.owners),
        tags={"revrec/layer": "delivery"},
        code_version="1",
    )
    def look(
        ledger: LedgerResource,
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the annotation
        with ledger.open().transaction() as tx:
            found = standing.broken(tx)
        table = dg.MetadataValue.table(
            records=[
                dg.TableRecord(
                    {name: "" if row[name] is None else str(row[name]) for name in _COLUMNS}
                )
                for row in found[:_SHOWN]
            ],
            schema=dg.TableSchema([dg.TableColumn(name, "string") for name in _COLUMNS]),
        )
        return dg.MaterializeResult(
            metadata={"broken": len(found), "rows": table},
            check_results=[
                dg.AssetCheckResult(
                    check_name=CHECK,
                    passed=not found,
                    description=f"{found[0]['what']}: {found[0]['source']} "
                    f"{found[0]['period'] or ''} {found[0]['message']}"
                    if found
                    else None,
                    metadata={"broken": len(found), "rows": table},
                )
            ],
        )

    return look
