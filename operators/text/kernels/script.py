"""How many letters of a text are of which script.

Promises: no GIL, one pass, about a nanosecond a byte. Refuses nothing.
"""

from tundish.operators.text.kernels.machine import I64, decoded, kernel


@kernel
def counted(data, offsets, scripts, latin, counts):
    """Add to `counts`, (n, scripts) int32, the letters of each text by the number of their script (`scripts`, by code
    point). `latin`: the number of the script of ASCII letters."""
    for text in range(offsets.size - 1):
        at, end, plain = I64(offsets[text]), I64(offsets[text + 1]), I64(0)
        while at < end:
            code = I64(data[at])
            if code < 128:
                small = code | 32
                plain += I64(small >= 97 and small <= 122)
                at += 1
            else:
                code, width = decoded(data, at)
                counts[text, scripts[code]] += 1
                at += width
        counts[text, latin] += plain
