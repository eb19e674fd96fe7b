"""What speaks for each object at each pixel of a small picture, weighed on the device; and the map that comes of it.

::

    shares, slots of the frame before ─► carry ─► before ─┐
    flow beside the camera's ─────────────────────────────┤
    looks like it ────────────────────────────────────────┼─► weigh ─► shares ─► settle ─► pieces, named slots
    regions and how they join, colours ───────────────────┘                        │
                                              the tracker, on the host ◄─ overlaps ┘─► name ─► slots

The reference is objects/host_weighing.py: NumPy and OpenCV, which is what a CPU gets. Differs from it: positions are
not rounded to 1/32 px, distances are exact, a median motion is to 1/64 px and at most 64 px, specks of all named
objects go before pinholes of any are filled, and pieces are numbered in the order of their first pixels.

Source: see kernels/object_evidence.cu.
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import launch, tunable
from streamstyle.stages.connected_components import connected_components
from streamstyle.stages.evidence_terms import (
    EAGER,
    HAS_LOOK,
    HAS_MOTION,
    HAS_SHARES,
    HAS_SLOTS,
    HAS_TRUST,
    MOST_CLASSES,
    PER_CLASS,
    Carried,
    Found,
    Rules,
    Settled,
    Who,
)
from streamstyle.stages.region_stats import region_areas

STEM = "object_evidence"


def carry(
    shares: Tensor | None,
    slots: Tensor | None,
    flow: Tensor | None,
    own: Tensor | None,
    moving: Tensor | None,
    who: Who,
    size: tuple[int, int],
) -> Carried:
    """Each pixel takes the shares, a mean of four, and the slot of where it was; and what that tells in numbers.

    Args:
        shares: [K, h, w] float32 of the frame before; None where there is none of this shot.
        slots: [h, w] int32 likewise.
        flow: [h, w, 2] float32 px to the frame before; None: nothing moved.
        own: [2, h, w] float32 px, beside the camera's motion; None if that is not known.
        moving: [h, w] float32, log-odds that a pixel moves by itself; with own.
        who: the classes, at most MOST_CLASSES.
        size: (h, w).

    Raises:
        ShapeError: there are too many classes, or a map is not of that size.

    Cost: 2 launches and 8 buffers, two of them zeros; no synchronisation; 8 bytes a pixel and class, some 40 a pixel.
    """
    count, many, device = len(who.slots), len(who.facts), who.facts.device
    if count > MOST_CLASSES:
        raise ShapeError(f"at most {MOST_CLASSES} classes are weighed at once, got {count}")
    for name, given, shape in (("shares", shares, (count, *size)), ("slots", slots, size), ("flow", flow, (*size, 2))):
        if given is not None and given.shape != shape:
            raise ShapeError(f"{name} must be {[*shape]}, got {[*given.shape]}")
    known = HAS_SHARES * (shares is not None) | HAS_SLOTS * (slots is not None)
    known |= HAS_MOTION * (own is not None) | EAGER * who.eager
    tally = empty_tally(who)
    bins = torch.zeros(count, 2, tunable(STEM, "BINS"), dtype=torch.int32, device=device)
    before = None if shares is None else torch.empty_like(shares)
    carried = None if slots is None else torch.empty_like(slots)
    bits = torch.empty(size, dtype=torch.int32, device=device)
    none, whole = _none(device)
    maps = (_or(shares, none), _or(slots, whole), _or(flow, none), _or(own, none), _or(moving, none), who.classes)
    out = (_or(before, none), _or(carried, whole), bits, tally, bins)
    launch(STEM, "object_evidence_carry", bits.numel(), *maps, *out, count, many, *size, known, int(flow is not None))
    medians = torch.empty(count, 2, device=device)
    launch(STEM, "object_evidence_median", 2 * count, bins, medians, count, by_block=True)
    return Carried(before, carried, bits, tally, medians, own, moving, known)


def empty_tally(who: Who) -> Tensor:
    """Zeros for Carried.tally."""
    size = len(who.slots) * PER_CLASS + 1 + 2 * len(who.facts)
    return torch.zeros(size, dtype=torch.int64, device=who.facts.device)


def weigh(
    carried: Carried, look: Tensor | None, found: Found, who: Who, rules: Rules, trust: Tensor | None = None
) -> Tensor:
    """Each class's share of each pixel: all that speaks for it, drawn to regions and to colours, its borders smooth.

    Args:
        carried: from :func:`carry`, with the same who.
        look: [K + 1, h', w'] float32 of the frame's size or smaller, probability that each place looks like the
            background and each class; None before anybody's look is known.
        found: the frame's regions and colours.
        rules: the weights.
        trust: [h, w] float32, 0..1, how far what was carried says something of named objects; None: all of it.

    Returns:
        [K, h, w] float32, together at most 1.

    Raises:
        ShapeError: trust is not of the frame's size.

    Cost: 10 launches and a dozen buffers, no synchronisation; some 60 bytes a pixel and class.
    """
    count, many, (height, width) = len(who.slots), len(who.facts), found.ids.shape
    if trust is not None and trust.shape != found.ids.shape:
        raise ShapeError(f"trust must be {[*found.ids.shape]}, got {[*trust.shape]}")
    nears, own, moving = nearness(carried, who, rules), carried.own, carried.moving
    known, regions, device = carried.known, len(found.into), found.ids.device
    known |= HAS_LOOK * (look is not None) | HAS_TRUST * (trust is not None)
    none, whole = _none(device)
    shares = torch.empty(count, height, width, device=device)
    levels = len(rules.heights)
    # One buffer of zeros: of classes the sums and those of squares, the areas, and of levels the sums and pixels of
    # what is joined.
    sums, areas, joined, pixels = (
        torch.zeros((2 * count + 1 + 2 * levels) * regions, dtype=torch.int64, device=device)
        .view(-1, regions)
        .split([2 * count, 1, levels, levels])
    )
    small = (0, 0) if look is None else look.shape[1:]
    evidence: tuple[Tensor, ...] = (
        _or(carried.before, none),
        _or(carried.slots, whole),
        _or(own, none),
        _or(moving, none),
        _or(trust, none),
    )
    evidence += (_or(look, none), who.classes, who.facts, rules.weights, carried.medians, carried.tally, found.ids)
    evidence += (nears,)  # opened where somebody comes out, for what draws after it
    sizes = (count, many, height, width, *small, regions, known)
    launch(STEM, "object_evidence_weigh", height * width, *evidence, shares, sums, areas, *sizes)
    pulls = _pulls((sums, areas, joined, pixels), found, who, rules)
    drawn = _drawn(shares, pulls, nears, carried, found, who, rules, known)
    return _smooth(drawn, found, rules)


def nearness(carried: Carried, who: Who, rules: Rules) -> Tensor:
    """How near, 0..1, each pixel is to where each class was carried to, and to all that is followed.

    Returns:
        [K + 1, h, w] float32; and carried.tally has how each named object's motion tells it from what is around it.

    Cost: 2 launches, no synchronisation.
    """
    count, (height, width), device = len(who.slots), carried.bits.shape, carried.bits.device
    rows = torch.empty(count + 1, height, width, dtype=torch.uint16, device=device)
    nears = torch.empty(count + 1, height, width, device=device)
    sizes, pixels = (height, width, rules.reach_px), height * width
    launch(STEM, "object_evidence_reach_rows", pixels, carried.bits, rows, count + 1, *sizes)
    given = (rows, carried.bits, _or(carried.own, _none(device)[0]), who.classes, rules.weights, carried.medians)
    launch(STEM, "object_evidence_reach_columns", pixels, *given, nears, carried.tally, count, *sizes, carried.known)
    return nears


def _pulls(sums: tuple[Tensor, ...], found: Found, who: Who, rules: Rules) -> Tensor:
    """How each class's share is drawn to each region's mean, [2, K, R] float32: what stays of it, what is added."""
    of_classes, areas, joined, pixels = sums
    count, regions = len(who.slots), of_classes.shape[1]
    levels, pulls = len(rules.heights), torch.empty(2, count, regions, device=areas.device)
    tops = torch.empty(levels, regions, dtype=torch.int32, device=areas.device)
    if who.found >= 0:
        tree = (of_classes[who.found], areas, found.into, found.at, rules.heights)
        launch(STEM, "object_evidence_join", levels * regions, *tree, joined, pixels, tops, regions)
    given = (of_classes, areas, joined, pixels, tops, rules.weights)
    launch(STEM, "object_evidence_mean", count * regions, *given, pulls, count, regions, who.found)
    return pulls


def _drawn(
    shares: Tensor, pulls: Tensor, nears: Tensor, carried: Carried, found: Found, who: Who, rules: Rules, known: int
) -> Tensor:
    """Shares drawn to their regions' means and to the colours around."""
    count, height, width = shares.shape
    regions = pulls.shape[2]
    rows, columns = max(1, height // rules.stride_px), max(1, width // rules.stride_px)
    radius, cells = max(1, round(rules.window_px / rules.stride_px)), rows * columns
    coarse = shares.new_empty(3 + count, rows, columns)
    sizes = (count, height, width, rows, columns, regions)
    given = (found.rgb, shares, pulls, found.ids, rules.weights)
    launch(STEM, "object_evidence_shrink", coarse.numel(), *given, coarse, *sizes)
    planes = shares.new_empty(count, 5, rows, columns)
    launch(STEM, "object_evidence_fit", count * cells, coarse, rules.weights, planes, count, rows, columns, radius)
    spread = torch.empty_like(planes)
    launch(STEM, "object_evidence_spread", planes.numel(), planes, spread, 5 * count, rows, columns, radius)
    drawn_of = (
        shares,
        pulls,
        found.ids,
        found.rgb,
        spread,
        nears,
        who.classes,
        who.facts,
        rules.weights,
        carried.tally,
    )
    drawn, many = torch.empty_like(shares), len(who.facts)
    launch(STEM, "object_evidence_draw", height * width, *drawn_of, drawn, count, many, *sizes[1:], known)
    return drawn


def _smooth(drawn: Tensor, found: Found, rules: Rules) -> Tensor:
    """Shares [K, h, w], their borders smooth."""
    smooth, (count, height, width) = torch.empty_like(drawn), drawn.shape
    given = (drawn, found.rgb, rules.weights, smooth)
    launch(STEM, "object_evidence_smooth", height * width, *given, count, height, width, rules.smooth_reach_px)
    return smooth


def settle(shares: Tensor, carried: Carried, who: Who, rules: Rules) -> Settled:
    """Each pixel is that class's which has more than half of it; without specks of named objects, all pinholes filled.

    Args:
        shares: [K, h, w] float32, together at most 1.
        carried: of the same frame; its tally takes the pixels of each class, and of the rest.

    Cost: some 20 launches, no synchronisation; some 60 bytes a pixel and class.
    """
    count, height, width = shares.shape
    device, many, plane = shares.device, len(who.facts), height * width
    masks = torch.empty(count, height, width, dtype=torch.uint8, device=device)
    outside = torch.ones(count, height + 2, width + 2, dtype=torch.uint8, device=device)
    split = (shares.contiguous(), masks, outside, carried.tally)
    launch(STEM, "object_evidence_split", plane, *split, count, height, width)
    parts = connected_components(masks, connectivity=8, impl="cuda")
    areas = region_areas(parts, plane + 1, impl="cuda")
    areas[:, 0] = 0
    largest = areas.amax(1)
    numbers, pieces = parts.new_zeros(plane + 1), parts.new_ones(1)
    if who.found >= 0:
        large = areas[who.found] >= rules.piece_px
        counted = large.cumsum(0, dtype=torch.int32)
        numbers, pieces = counted * large, counted[-1:] + 1
        outside[who.found, 1:-1, 1:-1] = numbers[parts[who.found]] == 0  # what is small is no piece
    gaps = connected_components(outside, connectivity=4, impl="cuda")
    gap_areas = region_areas(gaps, (height + 2) * (width + 2) + 1, impl="cuda")
    most = int(plane / max(1.0, rules.piece_px)) + 2
    overlap = torch.zeros(most, many, dtype=torch.int64, device=device)
    slots = torch.empty(height, width, dtype=torch.int32, device=device)
    given: tuple[Tensor, ...] = (
        masks,
        parts,
        areas,
        largest,
        gaps,
        gap_areas,
        numbers,
        _or(carried.slots, _none(device)[1]),
    )
    given += (who.classes, who.members, who.facts, rules.weights)
    sizes = (count, many, most, height, width, carried.known)
    launch(STEM, "object_evidence_settle", plane, *given, carried.tally, slots, overlap, *sizes)
    return Settled(slots, overlap, pieces)


def name(settled: Tensor, owners: Tensor) -> Tensor:
    """The slots [h, w] int32 of a Settled's map, whose pieces belong to owners [P] int32; 1 launch."""
    slots = torch.empty_like(settled)
    launch(STEM, "object_evidence_name", settled.numel(), settled, owners, slots, settled.numel())
    return slots


def _none(device: torch.device) -> tuple[Tensor, Tensor]:
    """What stands for maps that are not there: float32, and int32."""
    return torch.empty(0, device=device), torch.empty(0, dtype=torch.int32, device=device)


def _or(given: Tensor | None, none: Tensor) -> Tensor:
    return none if given is None else given.contiguous()
