"""The kernels of `features`: each writes some rows of its matrix, (rows, blocks) float32, in passes over the blocks.

What a number is computed in is part of what was learnt, to the last bit: shares of a block's own words are quotients of
float32, all others of float64 that are rounded once; sums are float64 from the first block to the last. Numbers of
other files (rows of counts, tags, groups) are handed in: the cache of kernels sees no change in them.

Promises: linear time; nothing beyond the arrays that are handed in. `b` is a block, `e` an element.
"""

import numpy as np

from tundish.operators.text.kernels.machine import I64, K0, K1, U64, folded, kernel

ONE = np.float32(1)
SPREAD = 0x9E3779B1  # odd, 2^32 by the golden ratio: a product's upper bits depend on all of a hash
NO_H1, NO_HEADING = -9999, 999  # where no heading comes before
FAR = 999  # no block is further from prose


@kernel
def gathered(hashes, owners, keys, values, out):
    """Add the value of each hash to `out` at its owner; how many have one."""
    mask, known = U64(keys.size - 1), I64(0)
    for one in range(hashes.size):
        key = hashes[one]
        at = ((U64(key) * U64(SPREAD)) >> U64(40)) & mask
        while keys[at] != 0:
            if keys[at] == key:
                out[owners[one]] += values[at]
                known += 1
                break
            at = (at + U64(1)) & mask
    return known


@kernel
def inherit(parents, tags, marks, is_block, of_tag, of_mark, own, above, values, depth, box):
    """From the top down: bits of all it stands in; the least, greatest and summed value; depth; the box around it."""
    low, high, total = values[0], values[1], values[2]
    for e in range(parents.size):
        up, value, bits = I64(parents[e]), own[e], of_tag[tags[e]] | of_mark[marks[e]]
        if up < 0:
            above[e], low[e], high[e], total[e], depth[e] = bits, min(value, 0), max(value, 0), value, 0
            box[e] = e
        else:
            above[e] = above[up] | bits
            low[e], high[e] = min(low[up], value), max(high[up], value)
            total[e], depth[e] = total[up] + value, depth[up] + 1
            box[e] = e if is_block[tags[e]] else box[up]


@kernel
def look_alike(element, parents, tags, depth, box, up, boxes, looks, places, alike):
    """The box of each block and those above it; a number for each look, from 0 in the order of their first blocks.

    A look is the depth of the box, its tag and those of `up` boxes above it. `places`: a table of 2^n places, -1 is
    free, of at least twice the blocks; `looks`: (blocks,) int64 to work in.
    """
    mask, known = U64(places.size - 1), I64(0)
    for b in range(element.size):
        here = I64(box[element[b]])
        boxes[0, b], look = here, I64(tags[here])
        for step in range(1, boxes.shape[0]):
            here = I64(box[max(I64(parents[here]), 0)])
            boxes[step, b] = here
            if step <= up:
                look = look * 131 + tags[here]
        look = look * 131 + depth[boxes[0, b]]
        at = folded(U64(look) ^ K0, K1) & mask
        while places[at] >= 0 and looks[places[at]] != look:
            at = (at + U64(1)) & mask
        if places[at] < 0:
            places[at], looks[known] = known, look
            known += 1
        alike[b] = places[at]


@kernel
def of_itself(to, counts, rows, first, last, ends, element, box, tags, above, groups, values, depth, said):
    """The block itself. `rows` of `counts`: words, linked, stops, commas, prices, breaks, capitals, digits."""
    n, words, linked, stops = to.shape[1], counts[rows[0]], counts[rows[1]], counts[rows[2]]
    capitals, digits = counts[rows[6]], counts[rows[7]]
    for row in range(6):
        for b in range(n):
            to[row, b] = counts[rows[row], b]
    for b in range(n):
        least = max(words[b], ONE)
        to[6, b], to[7, b], to[8, b] = linked[b] / least, capitals[b] / least, digits[b] / least
        to[9, b] = words[b] / (stops[b] + ONE)
        code, told = last[b], I64(2) * (last[b] == 58)
        for sign in ends:
            told += code == sign
        to[10, b], code = told, first[b]
        to[11, b] = I64(code >= 65) + (code >= 91) + (code >= 123) - (code < 48) - (code < 58)
    for b in range(n):
        bits = above[element[b]]
        for group in range(groups):
            to[12 + group, b] = (bits >> np.uint32(group)) & np.uint32(1)
    row = 12 + groups
    for b in range(n):
        e = element[b]
        to[row, b], to[row + 1, b], to[row + 2, b] = values[0, e], values[1, e], values[2, e]
        to[row + 3, b], to[row + 4, b] = depth[e], tags[box[b]]
        to[row + 5, b], to[row + 6, b] = said[b], said[b] / max(words[b], ONE)


@kernel
def summed(words, linked, stops, said, of_piece, element, above, group, sums):
    """Of the pieces before each, (pieces + 1, 6): words, linked, stops, what is said, blocks, words in `group`."""
    for column in range(6):
        sums[0, column] = 0
    for piece in range(words.size):
        sums[piece + 1, 0] = sums[piece, 0] + words[piece]
        sums[piece + 1, 1] = sums[piece, 1] + linked[piece]
        sums[piece + 1, 2] = sums[piece, 2] + stops[piece]
        sums[piece + 1, 3] = sums[piece, 3] + said[piece]
        sums[piece + 1, 4] = of_piece[piece] + 1
        inside = (above[element[piece]] >> np.uint32(group)) & np.uint32(1)
        sums[piece + 1, 5] = sums[piece, 5] + (words[piece] if inside else 0)


@kernel
def of_boxes(to, boxes, few, begin, end, tags, sums):
    """The boxes above it, by `summed` over their pieces; nine rows a box, four for the box `few`."""
    everything, row = max(sums[sums.shape[0] - 1, 0], 1.0), I64(0)
    for step in range(1, boxes.shape[0] - 1):
        for b in range(to.shape[1]):
            box = I64(boxes[step, b])
            x, y = sums[begin[box]], sums[end[box]]
            count, many = y[0] - x[0], y[4] - x[4]
            least = max(count, 1.0)
            to[row, b], to[row + 1, b] = count, (y[1] - x[1]) / least
            to[row + 2, b], to[row + 3, b] = many, count / max(many, 1.0)
            if step != few:
                to[row + 4, b], to[row + 5, b] = (y[2] - x[2]) / least, count / everything
                to[row + 6, b], to[row + 7, b] = (y[5] - x[5]) / least, (y[3] - x[3]) / least
                to[row + 8, b] = tags[box]
        row += 4 if step == few else 9


@kernel
def is_prose(words, linked, long, share, prose):
    """Blocks of at least so many words of which less than such a share is in links; how many."""
    many = I64(0)
    for b in range(words.size):
        prose[b] = words[b] >= long and linked[b] < share * words[b]
        many += prose[b]
    return many


@kernel
def of_order(to, words, element, above, h1, headings, prose, proses):
    """Where it stands among the others: after which heading, how far from prose."""
    n, total, before = to.shape[1], 0.0, 0.0
    for b in range(n):
        total += words[b]
    top, heading, last, passed = I64(-1), I64(-1), I64(-FAR), I64(0)
    for b in range(n):
        bits = above[element[b]]
        top = b if top < 0 and bits & h1 else top
        heading = b if bits & headings else heading
        last = b if prose[b] else last
        passed += prose[b]
        to[0, b], to[1, b], to[2, b] = b / n, before, before / max(total, 1.0)
        to[4, b] = b - heading if heading >= 0 else NO_HEADING
        to[5, b], to[7, b], to[8, b] = min(b - last, FAR), passed, proses - passed
        before += words[b]
    coming = I64(n + FAR)
    for back in range(n):
        b = n - 1 - back
        coming = b if prose[b] else coming
        to[3, b], to[6, b] = b - top if top >= 0 else NO_H1, min(coming - b, FAR)


@kernel
def of_neighbours(to, own, shown, relative, offsets):
    """Rows `shown` of `of_itself` as the block so far before has them (negative: behind), -1 beyond the ends; row
    `relative` less what the block has."""
    n, row = to.shape[1], I64(0)
    for by in offsets:
        low, high = min(max(by, 0), n), max(min(n + by, n), 0)
        for what in shown:
            for b in range(low):
                to[row, b] = -ONE
            for b in range(low, high):
                to[row, b] = own[what, b - by]
            for b in range(max(low, high), n):
                to[row, b] = -ONE
            if what == relative:
                for b in range(n):
                    to[row, b] -= own[what, b]
            row += 1


@kernel
def of_windows(to, words, linked, said, reaches, sums):
    """Sums over the blocks up to a reach away on both sides, three rows a reach; `sums`: (blocks + 1, 3) to work in."""
    n = to.shape[1]
    sums[0, 0] = sums[0, 1] = sums[0, 2] = 0
    for b in range(n):
        sums[b + 1, 0] = sums[b, 0] + words[b]
        sums[b + 1, 1] = sums[b, 1] + linked[b]
        sums[b + 1, 2] = sums[b, 2] + said[b]
    for number in range(reaches.size):
        reach, row = I64(reaches[number]), 3 * number
        for b in range(n):
            x, y = sums[max(b - reach, 0)], sums[min(b + reach + 1, n)]
            near = max(y[0] - x[0], 1.0)
            to[row, b], to[row + 1, b], to[row + 2, b] = near, (y[1] - x[1]) / near, (y[2] - x[2]) / near


@kernel
def of_page(to, words, linked, prices, said, alike, prose, proses, known, element, above, inside, tags, kinds, work):
    """Those that look like it, and the page as a whole, the same for every block.

    `inside`: bits of groups, a row each; `kinds`: tags, a row each; `work`: (3, as many as blocks) float64.
    """
    n, many, most, links = to.shape[1], work[0], work[1], work[2]
    for b in range(n):
        many[b] = most[b] = links[b] = 0
    total = linking = asked = spoken = good = 0.0
    for b in range(n):
        look = alike[b]
        many[look] += 1
        most[look] += words[b]
        links[look] += linked[b]
        total += words[b]
        linking += linked[b]
        asked += prices[b]
        spoken += said[b]
        if prose[b]:
            good += words[b]
    everything = max(total, 1.0)
    for b in range(n):
        look = alike[b]
        to[0, b], to[1, b], to[2, b] = many[look], most[look], most[look] / max(many[look], 1.0)
        to[3, b], to[4, b] = links[look] / max(most[look], 1.0), most[look] / everything
        to[5, b], to[6, b], to[7, b], to[8, b], to[9, b] = everything, n, linking / everything, good, proses
        to[10, b], to[11, b], to[12, b] = asked, known, spoken / everything
    row = I64(13)
    for bits in inside:
        held = 0.0
        for b in range(n):
            if above[element[b]] & bits:
                held += words[b]
        for b in range(n):
            to[row, b] = held / everything
        row += 1
    for kind in kinds:
        count = I64(0)
        for e in range(tags.size):
            count += tags[e] == kind
        for b in range(n):
            to[row, b] = count
        row += 1
