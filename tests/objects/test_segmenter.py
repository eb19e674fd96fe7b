from types import SimpleNamespace

import numpy as np
import pytest
import torch

from streamstyle.config import AnalysisOptions, Options
from streamstyle.job import identity
from streamstyle.look import Look
from streamstyle.nets import int8
from streamstyle.nets.hed import HED, NARROW_CHANNELS
from streamstyle.nets.hed_int8 import Int8HED
from streamstyle.objects import segmenter
from streamstyle.objects.appearance import LOOK_LAYERS
from streamstyle.objects.segmenter import Segmenter, edges_in, file_of
from streamstyle.projects.project import what_must_stay
from tests import oracles
from tests.oracles import COLOURS, HEIGHT, WIDTH, disc, disc_picture, iou


def constant_edges(edges: np.ndarray):
    """A HED that always sees these edges, uint8 [h, w], in the middle of the margin it is given."""

    def seen(rgb):
        grown = np.pad(edges, (rgb.shape[2] - edges.shape[0]) // 2, mode="edge")
        return torch.from_numpy(grown).float().div(255).expand(len(rgb), -1, -1)

    return lambda *_, **__: Seeing(seen)


def load_as_it_is(monkeypatch, load) -> None:
    """HED.load is this, of the narrow network, too, and what it gives is not turned into integers."""
    monkeypatch.setattr(HED, "load", load)
    monkeypatch.setattr(HED, "load_narrow", lambda *given, **more: load("narrow", *given, **more))
    monkeypatch.setattr(int8, "available", lambda: False)


class Seeing:
    """A HED that sees what a function of the picture says."""

    def __init__(self, edges):
        self.edges = edges

    def edges_and_features(self, rgb, layers):
        return self.edges(rgb), [rgb.new_zeros(len(rgb), 1, *rgb.shape[2:]) for _ in layers]


def segmenter_of(monkeypatch, edges: np.ndarray, **options) -> Segmenter:
    load_as_it_is(monkeypatch, constant_edges(edges))
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
    load_as_it_is(monkeypatch, lambda *_, **__: Seeing(lambda rgb: rgb[:, 0]))
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
    seeker = segmenter_of(monkeypatch, edges, detail=0.75)
    (found,) = seeker(torch.zeros(1, 3, *edges.shape))
    assert found.regions == most
    assert found.left_out == 10 - most
    kept = [int(found.ids[8, 12 + 21 * k]) > 0 for k in range(9)]
    assert kept == [k >= 10 - most for k in range(9)]
    assert sorted(found.ids.unique().tolist()) == list(range(most))


def asked(monkeypatch, answers, *, features: bool = False, **options) -> Segmenter:
    """A segmenter that asks another's, which answers with these ids [h, w], one a picture."""
    monkeypatch.setattr(segmenter, "load_segmenter", lambda spec, device: lambda rgb: next(answers))
    return Segmenter(AnalysisOptions(segmenter="mine", **options), torch.device("cpu"), features=features)


def never(*_, **__):
    raise AssertionError("HED is not needed")


def test_regions_of_anothers_segmenter_are_numbered_as_ours_are(monkeypatch):
    load_as_it_is(monkeypatch, never)
    first, second = np.zeros((10, 20), np.int32), np.zeros((10, 20), np.int32)
    first[1:4, 2:9], first[5:9, 0:9], first[6, 12] = 2**31 - 1, 40, 7
    second[2:5, 3:8] = 9
    ask = asked(monkeypatch, iter([first, second]), min_area=2)  # of 200 pixels: 4
    one, two = ask(torch.zeros(2, 3, 10, 20))
    assert (one.regions, two.regions) == (3, 2)
    assert torch.equal(one.ids, torch.from_numpy((first == 2**31 - 1) + 2 * (first == 40)).int())
    assert torch.equal(two.ids, torch.from_numpy(second == 9).int())
    assert one.ids.dtype == torch.int32
    assert torch.equal(one.finest, one.ids)
    assert one.finest_regions == 3


def test_regions_of_anothers_segmenter_are_limited_too(monkeypatch):
    load_as_it_is(monkeypatch, never)
    monkeypatch.setattr(segmenter, "MOST_REGIONS", 6)
    ids = np.arange(1, 201, dtype=np.int32).reshape(10, 20)  # more of them than any picture of connected regions has
    ids[:2] = 1
    ask = asked(monkeypatch, iter([ids]), min_area=0)
    (found,) = ask(torch.zeros(1, 3, 10, 20))
    assert (found.regions, found.left_out) == (6, 161 - 5)
    assert found.ids.unique().tolist() == list(range(6))
    assert (found.ids[:2] == 1).all()


def test_hed_is_there_for_its_features_beside_anothers_regions(monkeypatch):
    edges, box = ring(), np.zeros((100, 140), np.int32)
    box[20:70, 30:90] = 3
    load_as_it_is(monkeypatch, constant_edges(edges))
    (found,) = asked(monkeypatch, iter([box]), features=True)(torch.zeros(1, 3, *edges.shape))
    assert torch.equal(found.ids, torch.from_numpy(box // 3))
    assert len(found.features) == len(LOOK_LAYERS)
    assert found.finest_regions > 2


def test_more_detail_parts_regions_and_moves_no_border(monkeypatch):
    """Three boxes behind walls of different strength: each appears from some detail on, and stays."""
    edges, counts = np.full((60, 200), 4, np.uint8), []
    for k, strength in enumerate((90, 150, 240)):
        edges[10:50, 20 + 60 * k : 60 + 60 * k] = strength
        edges[16:44, 26 + 60 * k : 54 + 60 * k] = 4
    before = None
    for detail in (0.0, 0.2, 0.5, 0.75, 0.95):
        (found,) = segmenter_of(monkeypatch, edges, detail=detail)(torch.zeros(1, 3, *edges.shape))
        counts.append(found.regions - 1)
        if before is not None:  # every region there was is now one or several whole ones
            now, then = found.ids.flatten(), before.flatten()
            pairs = torch.stack([now, then])[:, now > 0].unique(dim=1)
            assert len(pairs[0].unique()) == pairs.shape[1]
        before = found.ids
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] >= 3


def test_regions_are_made_of_the_finest_parts(monkeypatch):
    edges = oracles.edge_picture(np.random.default_rng(0), 100, 120)
    (found,) = segmenter_of(monkeypatch, edges, min_area=0)(torch.zeros(1, 3, *edges.shape))
    assert found.finest.shape == found.ids.shape
    assert 1 <= int(found.finest.min()) <= int(found.finest.max()) < found.finest_regions
    pairs = torch.stack([found.finest.flatten(), found.ids.flatten()]).unique(dim=1)
    assert len(pairs[0].unique()) == pairs.shape[1]  # no part lies in two regions
    assert found.finest_regions > found.regions


@pytest.mark.parametrize(("kind", "network"), [("regions", "narrow"), ("components", "2")])
def test_the_network_suits_the_segmenter_unless_a_side_is_said(monkeypatch, kind, network):
    asked = []
    load_as_it_is(monkeypatch, lambda which, *_, blocks=None: asked.append((which, blocks)))
    for side in ("auto", "3", "fuse"):
        for features in (False, True):
            Segmenter(AnalysisOptions(segmenter=kind, edge_side=side), torch.device("cpu"), features=features)
    of_narrow = [(network, None)] * 2 if network == "narrow" else [(network, 0), (network, 3)]
    assert asked == [*of_narrow, ("3", 0), ("3", 3), ("fuse", 0), ("fuse", 3)]


@pytest.mark.parametrize("can", [True, False])
def test_hed_runs_in_integers_where_it_can(monkeypatch, can):
    loads = []

    def load(device, dtype=torch.float32):
        loads.append(dtype)
        return HED("3", 4, NARROW_CHANNELS)

    monkeypatch.setattr(HED, "load_narrow", load)
    can = can and int8.available()
    monkeypatch.setattr(int8, "available", lambda: can)
    monkeypatch.setattr(segmenter, "choose_dtype", lambda precision, device: torch.bfloat16)
    assert edges_in(torch.device("cpu")) == ("int8" if can else "bfloat16")
    seeker = Segmenter(AnalysisOptions(), torch.device("cpu"), features=True)
    assert isinstance(seeker._hed, Int8HED) == can
    assert loads == [torch.float32 if can else torch.bfloat16]
    if can:
        (found,) = seeker(torch.rand(1, 3, 20, 30) * 0.1 + 0.4)
        assert [block.dtype for block in found.features] == [torch.uint8, torch.uint8, torch.float32]


@pytest.mark.weights
@pytest.mark.parametrize("size", [(96, 160), (75, 101), (5, 9)])
@pytest.mark.parametrize("kind", ["regions", "components"])
def test_features_lie_over_the_picture_and_change_no_region(asset, kind, size):
    asset("hed")
    rgb = torch.rand(2, 3, *size)
    plain, more = (
        Segmenter(AnalysisOptions(segmenter=kind), torch.device("cpu"), features=features)(rgb)
        for features in (False, True)
    )
    for without, found in zip(plain, more, strict=True):
        assert without.features == ()
        assert torch.equal(without.ids, found.ids)
        channels = NARROW_CHANNELS[1:] if kind == "regions" else (128, 256)
        assert [tuple(block.shape) for block in found.features] == [
            (count, -(-size[0] // stride), -(-size[1] // stride))
            for count, stride in zip(channels, (2, 4, 8), strict=False)
        ]
    one = Segmenter(AnalysisOptions(segmenter=kind), torch.device("cpu"), features=True)(rgb[1:])[0]
    for alone, together in zip(one.features, more[1].features, strict=True):
        assert torch.equal(alone, together)


def test_a_file_that_an_argument_names_is_known(tmp_path):
    (tmp_path / "a:b.pt").touch()
    assert file_of(f"mine:{tmp_path}/a:b.pt") == tmp_path / "a:b.pt"
    for none in ("regions", "mine", "mine:", f"mine:{tmp_path}", f"mine:{tmp_path}/gone.pt", "mine:3"):
        assert file_of(none) is None


@pytest.fixture
def identity_now(tmp_path):
    """The identity of a job that a segmenter is said for."""
    film = tmp_path / "in.mp4"
    film.write_bytes(b"film")
    plan = SimpleNamespace(info=SimpleNamespace(path=film), encoder=SimpleNamespace(name="libx264"))
    palette = SimpleNamespace(files=[])
    stylizer = SimpleNamespace(
        look=Look("wave"), device=torch.device("cpu"), dtype=torch.float32, int8=False, palette=palette
    )

    def now(segmenter: str) -> dict:
        options = Options(analysis=AnalysisOptions(segmenter=segmenter))
        return identity(plan, options, stylizer, 10, None, None)

    now.stylizer = stylizer
    return now


def test_a_job_is_another_one_where_edges_are_found_in_another_arithmetic(monkeypatch, identity_now):
    found = []
    for can in (True, False):
        monkeypatch.setattr(int8, "available", lambda can=can: can)
        found.append(identity_now("regions"))
    assert found[0] != found[1]
    assert what_must_stay(found[0]) == what_must_stay(found[1])


def test_a_job_is_another_one_where_it_is_painted_in_another_arithmetic(identity_now):
    floats = identity_now("regions")
    identity_now.stylizer.int8 = True
    assert identity_now("regions") != floats
    assert what_must_stay(identity_now("regions")) != what_must_stay(floats)


def test_a_job_is_another_one_when_the_checkpoint_has_changed(tmp_path, identity_now):
    checkpoint = tmp_path / "mine.pt"
    checkpoint.write_bytes(b"one")
    before = identity_now(f"mine:{checkpoint}")
    assert identity_now(f"mine:{checkpoint}") == before
    checkpoint.write_bytes(b"two")
    assert identity_now(f"mine:{checkpoint}") != before
    assert identity_now("regions")["segmenter"] is None
