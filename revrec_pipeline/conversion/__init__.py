"""The conversion file: RevRec's import template, filled with canonical rows.

`template` says what stands where, `sheets` turns rows into cells, `workbook` and `archive` write
them as .xlsx and .zip, `files` puts the result in place. Which rows are delivered is decided in
`revrec_pipeline.delivery`.
"""

from revrec_pipeline.conversion.files import disk_errors, write_files
from revrec_pipeline.conversion.template import Template, load_template

__all__ = ["Template", "disk_errors", "load_template", "write_files"]
