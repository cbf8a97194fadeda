"""The one partitions definition: accounting months by business date, in the site's time zone."""

import dagster as dg

from revrec_pipeline.settings import SiteSettings


def accounting_months(site: SiteSettings) -> dg.MonthlyPartitionsDefinition:
    """Months from `history_start` to the running one.

    Never change `fmt`, time zone or start once there is history: Dagster stores results under the
    key. `start_date` must be written in `fmt`, else loading fails ("unconverted data remains").
    """
    return dg.MonthlyPartitionsDefinition(
        start_date=site.history_start,
        fmt="%Y-%m",
        timezone=site.timezone,
        end_offset=1,  # without it the running month has no partition
    )
