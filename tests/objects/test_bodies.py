"""Regions joined by weak edges share what is known of them, as far as they are joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamstyle.objects import bodies
from streamstyle.objects.bodies import LEVELS, TIE, body_means
from streamstyle.objects.evidence import region_means
from streamstyle.stages.region_hierarchy import FULL, NEVER, RegionHierarchy, cut, region_hierarchy
from tests import oracles


def tree_of(**edges: float) -> tuple[np.ndarray, np.ndarray]:
    """Regions 1 to 4, of which 2 falls into 1, 4 into 3 and 3 into 1 at these edge strengths; NEVER where not said."""
    at = np.full(5, NEVER, np.int32)
    for region, name in ((2, "two"), (4, "four"), (3, "three")):
        if name in edges:
            at[region] = int(edges[name] * FULL)
    return np.array([0, 1, 1, 1, 3], np.int32), at


def shares(*sums: float, areas: tuple[int, ...] = (10, 10, 10, 10), **edges: float) -> np.ndarray:
    return body_means(np.array([0, *sums]), np.array([0, *areas]), *tree_of(**edges))[1:]


def test_regions_that_nothing_joins_keep_their_means():
    np.testing.assert_allclose(shares(10, 5, 0, 2), [1, 0.5, 0, 0.2])


def test_who_does_not_move_is_drawn_in_over_a_weak_edge_and_not_over_a_strong_one():
    """1 moves: 2 hangs on it by a weak edge, 3 and 4 by a strong one."""
    weak = shares(10, 0, 0, 0, two=0.02, three=0.95)
    np.testing.assert_allclose(weak, [1 - TIE / 2, TIE / 2, 0, 0])
    stronger = shares(10, 0, 0, 0, two=0.35, three=0.95)
    joined = sum(level >= 0.35 for level in LEVELS) / len(LEVELS)
    np.testing.assert_allclose(stronger, [1 - TIE * joined / 2, TIE * joined / 2, 0, 0])


def test_a_group_stands_out_by_its_contour_against_the_edges_inside_it():
    """1 and 2 are known in part, over an edge of .15; the stronger what surrounds them, the more of it stays."""
    kept = [shares(10, 8, 0, 0, two=0.15, four=0.05, three=contour)[:2].mean() for contour in (0.16, 0.35, 0.45, 0.95)]
    assert kept == sorted(kept)
    assert kept[0] < 0.65 < 0.85 < kept[-1] <= 0.9


def test_means_are_of_pixels_not_of_regions():
    (first, second, *_) = shares(30, 0, 0, 0, areas=(30, 10, 10, 10), two=0.02)
    np.testing.assert_allclose([first, second], [1 - TIE / 4, TIE * 3 / 4])


def test_bodies_are_those_of_the_cuts():
    rng = np.random.default_rng(0)
    tree: RegionHierarchy = region_hierarchy(torch.from_numpy(oracles.edge_picture(rng, 60, 80))[None])
    ids, count = tree.ids[0].numpy(), int(tree.regions[0]) + 1
    values, areas = rng.random(ids.shape), np.bincount(ids.ravel(), minlength=count)
    expected = (1 - TIE) * region_means(values, ids, areas)[ids]
    for level in LEVELS:
        whole = cut(tree, level)[0][0].numpy()
        expected = expected + TIE / len(LEVELS) * region_means(values, whole, np.bincount(whole.ravel()))[whole]
    found = region_means(values, ids, areas, (tree.into[0, :count], tree.at[0, :count]))[ids]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_ties_a_region_is_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "TIE", 0.0)
    np.testing.assert_allclose(shares(10, 0, 5, 0, two=0.02, four=0.02, three=0.02), [1, 0, 0.5, 0])
