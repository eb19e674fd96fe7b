import numpy as np
import pytest
import torch

from streamstyle import segmenter
from streamstyle.config import AnalysisOptions
from streamstyle.nets.hed import HED
from streamstyle.segmenter import MARGIN_PX, Segmenter
from tests import oracles
from tests.oracles import COLOURS, HEIGHT, WIDTH, disc, disc_picture, iou


def constant_edges(edges: np.ndarray):
    """A HED that always sees these edges, uint8 [h, w], in the middle of the margin it is given."""
    grown = torch.from_numpy(np.pad(edges, MARGIN_PX, mode="edge")).float().div(255)
    return lambda *_, **__: Seeing(lambda rgb: grown.expand(len(rgb), -1, -1))


class Seeing:
    """A HED that sees what a function of the picture says."""

    def __init__(self, edges):
        self.edges = edges

    def edges_and_features(self, rgb, blocks):
        return self.edges(rgb), [rgb.new_zeros(len(rgb), 1, *rgb.shape[2:]) for _ in blocks]


def segmenter_of(monkeypatch, edges: np.ndarray, **options) -> Segmenter:
    monkeypatch.setattr(HED, "load", constant_edges(edges))
    return Segmenter(AnalysisOptions(**options), torch.device("cpu"))


def ring(height: int = 100, width: int = 140) -> np.ndarray:
    """The edges of a box inside a picture."""
    edges = np.full((height, width), 4, np.uint8)
    edges[20:70, 30:90] = 220
    edges[24:66, 34:86] = 4
    return edges


@pytest.mark.parametrize("kind", ["regions", "components"])
def test_a_closed_edge_is_an_object(monkeypatch, kind):
    edges = ring()
    (found,) = segmenter_of(monkeypatch, edges, segmenter=kind)(torch.zeros(1, 3, *edges.shape))
    assert found.ids.dtype == torch.int32
    assert found.ids.shape == edges.shape
    assert found.regions == 2
    box = torch.zeros(edges.shape, dtype=torch.bool)
    box[20:70, 30:90] = True
    inside = found.ids == 1
    assert inside[24:66, 34:86].all()
    assert not inside[~box].any()
    if kind == "components":  # the edge itself is the object's
        assert torch.equal(inside, box)


@pytest.mark.parametrize("kind", ["regions", "components"])
@pytest.mark.parametrize("level", [0, 19, 128, 255])
@pytest.mark.parametrize("size", [(64, 80), (1, 1), (1, 50)])
def test_a_flat_picture_has_no_objects(monkeypatch, kind, level, size):
    edges = np.full(size, level, np.uint8)
    (found,) = segmenter_of(monkeypatch, edges, segmenter=kind)(torch.zeros(1, 3, *size))
    assert found.regions == 1
    assert not found.ids.any()


@pytest.mark.parametrize("kind", ["regions", "components"])
def test_regions_below_the_smallest_area_join_the_background(monkeypatch, kind):
    edges = ring()
    inside = 100 * 50 * 60 / edges.size
    (found,) = segmenter_of(monkeypatch, edges, segmenter=kind, min_area=inside + 1)(torch.zeros(1, 3, *edges.shape))
    assert found.regions == 1
    assert not found.ids.any()


@pytest.mark.parametrize("kind", ["regions", "components"])
def test_ids_are_dense_and_pictures_of_a_batch_do_not_touch_each_other(monkeypatch, kind):
    pictures = np.stack([oracles.edge_picture(np.random.default_rng(i), 100, 120) for i in range(3)])
    monkeypatch.setattr(HED, "load", lambda *_, **__: Seeing(lambda rgb: rgb[:, 0]))
    segmenter = Segmenter(AnalysisOptions(segmenter=kind), torch.device("cpu"))
    rgb = torch.from_numpy(pictures).float().div(255)[:, None].expand(-1, 3, -1, -1)
    together = segmenter(rgb)
    for i, found in enumerate(together):
        assert found.ids.unique().tolist() == list(range(found.regions))
        (alone,) = segmenter(rgb[i : i + 1])
        assert torch.equal(alone.ids, found.ids)
        assert alone.regions == found.regions


@pytest.mark.weights
@pytest.mark.parametrize("kind", ["regions", "components"])
def test_three_discs_are_three_objects(asset, kind):
    asset("hed")
    segmenter = Segmenter(AnalysisOptions(segmenter=kind), torch.device("cpu"))
    for found, frame in zip(segmenter(torch.cat([disc_picture(0), disc_picture(12)])), (0, 12), strict=True):
        ids = found.ids.numpy()
        assert ids.shape == (HEIGHT, WIDTH)
        picked = []
        for k in range(len(COLOURS)):
            inside = ids[disc(k, frame)]
            best = int(np.bincount(inside).argmax())
            assert best > 0, "the disc is background"
            # The paper's objects wear their edges outside; regions end on the ridge.
            assert iou(ids == best, disc(k, frame)) > (0.9 if kind == "regions" else 0.7)
            picked.append(best)
        assert len(set(picked)) == len(COLOURS)
        assert ids[0, 0] == ids[-1, -1] == 0
        assert found.regions == 1 + len(COLOURS)


@pytest.mark.weights
@pytest.mark.parametrize("kind", ["regions", "components"])
@pytest.mark.parametrize("level", [0, 128])
def test_hed_sees_no_edge_round_a_flat_picture(asset, kind, level):
    asset("hed")
    segmenter = Segmenter(AnalysisOptions(segmenter=kind), torch.device("cpu"))
    assert segmenter(torch.full((1, 3, 96, 160), level / 255))[0].regions == 1


@pytest.mark.parametrize("most", [5, 9, 10])
def test_regions_beyond_the_most_go_to_the_background_smallest_first_and_are_counted(monkeypatch, most):
    """Nine boxes of growing size on a ground: ten regions, the ground being the background."""
    edges = np.full((60, 200), 4, np.uint8)
    for k in range(9):
        edges[4 : 12 + 4 * k, 4 + 21 * k : 20 + 21 * k] = 220
        edges[6 : 10 + 4 * k, 6 + 21 * k : 18 + 21 * k] = 4
    monkeypatch.setattr(segmenter, "MOST_REGIONS", most)
    find = segmenter_of(monkeypatch, edges)
    (found,) = find(torch.zeros(1, 3, *edges.shape))
    assert found.regions == most
    assert find.left_out == 10 - most
    kept = [int(found.ids[8, 12 + 21 * k]) > 0 for k in range(9)]
    assert kept == [k >= 10 - most for k in range(9)]
    assert sorted(found.ids.unique().tolist()) == list(range(most))
