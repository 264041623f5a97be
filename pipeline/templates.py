"""Templates of the pages, and how they write numbers; what one page includes lies beside it.

Promises: every value is escaped unless it is markup of ours; a name that a template does not know is an error.
"""

import re
import time
from pathlib import Path

import jinja2
import markupsafe

from tundish.pipeline import funnel as funnels

SPELT = {"f1": "F1", "brier": "Brier score", "matthews": "Matthews", "spearman": "Spearman", "pearson": "Pearson"}


def template(name: str) -> jinja2.Template:
    """A template of this folder, such as `report.html.j2`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": funnels.number, "size": funnels.size, "short": funnels.short}
    environment.filters["clock"] = lambda seconds: time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    environment.filters["tight"] = lambda text: re.sub(r"\s*\n\s*\n\s*", "\n", text)  # a blank line says nothing here
    environment.filters["percent"] = lambda part, whole: f"{100 * part / max(1, whole):.1f} %"
    environment.filters["three"] = lambda value: "" if value is None else f"{value:.3f}"
    environment.filters["spoken"] = spoken
    environment.globals |= {"reasons": funnels.reasons}
    return environment.get_template(name)


def verbatim(name: str) -> markupsafe.Markup:
    """A file of this folder as it is, markup and all."""
    return markupsafe.Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))


def counted(many: int, one: str, several: str = "") -> str:
    """
    >>> counted(1, "run"), counted(1200, "run"), counted(2, "is", "are")
    ('1 run', '1,200 runs', '2 are')
    """
    return f"{many:,} {one if many == 1 else several or one + 's'}"


def spoken(name: str) -> str:
    """A measure as people write it.

    >>> spoken("macro_f1"), spoken("expected_error")
    ('macro F1', 'expected calibration error')
    """
    known = {"expected_error": "expected calibration error", "maximum_error": "maximum calibration error"}
    words = known.get(name, name).replace("_", " ").split()
    return " ".join(SPELT.get(word, word) for word in words)
