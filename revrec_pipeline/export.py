"""Export: what was loaded live and still counts, in the template of the conversion file."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from revrec_pipeline.conversion import disk_errors, write_files
from revrec_pipeline.engine import engine
from revrec_pipeline.errors import UsageError
from revrec_pipeline.ledger import Ledger, lines


def export(ledger: Ledger, path: Path) -> list[Path]:
    """Write the ledger's lines to `path`, by its suffix a workbook or a zip of CSV files.

    Returns the files: a long workbook has several parts.

    Raises:
        UsageError: the folder does not exist, or the suffix is neither .xlsx nor .zip.
        LakeError: the disk is full; nothing was written.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder; make it first, or choose another place")
    with ledger.transaction() as tx:
        readers = {kind: lines.read_active(tx, kind) for kind in lines.TABLE}
    with ExitStack() as stack:
        stack.enter_context(disk_errors(path.parent))
        # On the target's disk, so that the file appears in one step.
        scratch = Path(
            stack.enter_context(TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent))
        )
        db = stack.enter_context(engine(scratch / "spill"))
        views = {}
        for kind, reader in readers.items():
            file = scratch / f"{kind}.parquet"
            _spool(reader, file)
            db.from_parquet(str(file)).create_view(f"{kind}_line")
            views[kind] = f"{kind}_line"
        work = scratch / "work"
        work.mkdir()
        return [file.path for file in write_files(db, views, [path], scratch=work)]


def _spool(reader: pa.RecordBatchReader, file: Path) -> None:
    """The rows as a file, because every sheet reads them again."""
    with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
