"""Tables with a column of HTML as captures: what a crawler of another make kept, or a data set of pages.

Promises: one capture a row; its `source` is the file and the row, counted from 0. A page that is a string is UTF-8 and
says so; of bytes nothing is known, and the page's own declaration counts. Costs what reading the table costs. A row
without a page or an address, or one that cannot be read, is damage, and counted. Refuses what `numbered` refuses: a
table whose first rows have no such column, or are broken for the most part.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tundish.operators.web.walk import Damage
from tundish.operators.web.warc import Capture
from tundish.stages.read import picked, spelt
from tundish.stages.read_forms import Piece, numbered
from tundish.stages.read_lines import Broken


def constants(piece: Piece, html: str, url: str, date: str) -> dict[str, str]:
    """What a shard of the archives says of a piece of a table."""
    told = {"html": html, "url": url, "date": date, "start": str(piece.start), "row": str(piece.row)}
    return told | ({} if piece.stop is None else {"stop": str(piece.stop)})


def pages(uri: str, told: Mapping[str, str]) -> Iterator[Capture | Damage]:
    """The rows of a piece as captures."""
    piece = Piece(int(told["start"]), int(told["stop"]) if "stop" in told else None, int(told["row"]))
    named = told["html"], told["url"], told["date"]
    columns = [column for name in named for column in (name, name.partition(".")[0])]
    for number, row in numbered(uri, piece, columns, "Ingest.html"):
        if isinstance(row, Broken):
            yield Damage(number, row.reason, f"row {number}: {row.detail}")
            continue
        page, url, date = (picked(row, name) for name in named)
        yield _capture(page, url, spelt(date) or "", number)


def _capture(page: Any, url: Any, date: str, number: int) -> Capture | Damage:
    if isinstance(page, str):
        payload, kind = page.encode("utf-8", "replace"), "text/html; charset=utf-8"
    elif isinstance(page, bytes):
        payload, kind = page, "text/html"
    else:
        return Damage(number, "bad_record", "the row has no page")
    if not isinstance(url, str) or not url:
        return Damage(number, "bad_record", "the row has no address")
    return Capture(
        url=url.encode("utf-8", "replace").decode(),
        date=date,
        status=0,
        mime="text/html",
        headers={"content-type": kind},
        payload=payload,
        offset=number,
        record="",
        truncated=False,
        kind="resource",
    )
