"""The hash of the stream in plain integers, for slow twins of its kernels."""

ALL = (1 << 64) - 1
CHOOSE, DRAW, SAMPLE, LENGTH, PREFIX, NOISE = 1, 2, 3, 4, 5, 6


def mixed(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & ALL
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & ALL
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & ALL
    return x ^ (x >> 31)


def number(stream: int, seed: int, epoch: int, key: int, place: int) -> int:
    """The 64 bits of a place of a row in a stream."""
    keyed = mixed(mixed(seed & ALL) ^ stream)
    return mixed(mixed(mixed(epoch ^ keyed) ^ key) ^ mixed(place))
