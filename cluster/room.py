"""Room on a disk: how much has to stay free, and the sentence where it does not.

Promises: one rule for all that is written, `TUNDISH_MIN_FREE`: a share such as `10%` or a size such as `500MB`; 10%
unless it is said. Costs a question to the system. Refuses to write where less than that is free.
"""

import os
import re
import shutil
from pathlib import Path

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def least_free(total: int, wish: str | None = None) -> int:
    """Bytes that must stay free on a disk of `total` bytes.

    >>> least_free(1000, "25%"), least_free(10**9, "5MB")
    (250, 5000000)
    """
    wish = wish or os.environ.get("TUNDISH_MIN_FREE") or "10%"
    said = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%|[KMGT]B)\s*", wish, re.IGNORECASE)
    if said is None:
        raise ValueError(
            f"TUNDISH_MIN_FREE is {wish!r}; make it a share such as 10% or a size such as 500MB (KB, MB, GB, TB)"
        )
    number, unit = float(said[1]), said[2].upper()
    return int(total * number / 100 if unit == "%" else number * UNITS[unit])


def told(size: int) -> str:
    """A size as it is said to a reader, in the unit in which a first digit of it is seen.

    >>> told(41_000_000_000), told(300_000), told(512), told(0)
    ('41.0 GB', '300.0 KB', '0.5 KB', '0.0 KB')
    """
    unit = max((each for each in UNITS if UNITS[each] <= size), key=UNITS.__getitem__, default="KB")
    return f"{size / UNITS[unit]:.1f} {unit}"


def require_space(folder: Path, or_else: str = "") -> None:
    disk = shutil.disk_usage(folder)
    if disk.free < (least := least_free(disk.total)):
        raise ValueError(
            f"only {told(disk.free)} are free under {folder} and {told(least)} must stay free; "
            f"make room and run again (what is committed stays), {or_else}or lower TUNDISH_MIN_FREE"
        )
