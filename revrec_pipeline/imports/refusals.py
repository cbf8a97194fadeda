"""Why a file is refused: one line that names the place and what to do about it."""

from collections.abc import Sequence

from revrec_pipeline.codes import page_of
from revrec_pipeline.errors import UsageError

_SHOWN = 5


class FileRefusedError(UsageError):
    """Nothing of the file was taken, and nothing of it is left behind."""

    def __init__(self, file: str, problems: Sequence[str], code: str | None = None) -> None:
        shown = "; ".join(problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        page = f" ({page_of(code)})" if code else ""
        super().__init__(
            f"{file} was not imported: {f'{code}: ' if code else ''}{shown}{more}{page}"
        )
        self.code = code
