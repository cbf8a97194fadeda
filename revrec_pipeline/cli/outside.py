"""What the machine does to a command, wherever it comes up: a full disk, a database that is gone.

Where the product can say more, it raises a `RevrecError` on the spot; this is for the rest.
"""

import errno
import os

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def explain(error: BaseException) -> str | None:
    """What happened and what to do, if it is not a bug of ours."""
    seen: BaseException | None = error
    while seen is not None:
        if reason := _reason(seen):
            return f"{reason}; then run the same command again"
        seen = seen.__cause__ or seen.__context__
    return None


def _reason(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno in _DISK:
        where = error.filename or "a file of REVREC_HOME"
        return f"cannot write {where}: {error.strerror}; make room, or see to the permissions"
    text = next(iter(str(error).splitlines()), "")
    library = type(error).__module__.partition(".")[0]
    # Named by their modules: importing either costs more than most commands take.
    if library in ("duckdb", "_duckdb") and "No space left" in text:
        return f"{text}; make room"
    if library == "sqlalchemy" and type(error).__name__ == "OperationalError":
        if host := os.environ.get("DAGSTER_PG_HOST"):
            return f"Dagster cannot store its runs ({text}); see to DAGSTER_PG_HOST {host}"
        folder = os.environ.get("DAGSTER_HOME", "REVREC_HOME")
        return f"Dagster cannot store its runs in {folder} ({text}); make room"
    return None
