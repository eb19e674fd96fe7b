"""Segmenters of others: found by name, looked at when they answer, refused in one line; SAM 2 stands in by a stub."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from streamstyle import plugins
from streamstyle.config import AnalysisOptions
from streamstyle.errors import OptionError, ShapeError
from streamstyle.look import ObjectStyle
from streamstyle.objects.places import object_mask, place_mask
from streamstyle.objects.segmenter import Segmenter
from streamstyle.plugins import GROUP, Prompt, ids_of_masks, in_raster_order, known_segmenters, load_segmenter
from streamstyle.sam2_segmenter import config_of

RGB = np.zeros((6, 8, 3), np.uint8)


def halves(argument: str, device: str):
    """A plugin: the right half is a region, called by its argument's length."""

    def segment(rgb, prompts=()):
        ids = np.zeros(rgb.shape[:2], np.int64)
        ids[:, rgb.shape[1] // 2 :] = len(argument)
        return ids

    return segment


@pytest.fixture
def offered(monkeypatch):
    """Entry points as if packages had been installed."""
    there = [EntryPoint("halves", f"{__name__}:halves", GROUP), EntryPoint("broken", "no_such_package:load", GROUP)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: there if group == GROUP else [])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


def refused(spec: str) -> str:
    with pytest.raises(OptionError) as error:
        load_segmenter(spec, "cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_plugin_is_found_by_its_name_and_given_its_argument(offered):
    assert known_segmenters() == ["broken", "halves", "sam2"]
    ids = load_segmenter("halves:a:b", "cpu")(RGB)
    assert ids.dtype == np.int32
    assert np.unique(ids[:, 4:]).tolist() == [3]
    assert not ids[:, :4].any()


def test_what_is_not_there_or_broken_is_refused(offered):
    assert "no such segmenter; there are regions, components, broken, halves, sam2" in refused("sam3:x")
    assert "--segmenter broken: cannot be loaded" in refused("broken")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.zeros((8, 6), np.int32), r"gave int32 \[8, 6\]"),
        (np.zeros((6, 8)), r"gave float64"),
        ([[0]], "gave list"),
        (np.full((6, 8), -1), "must not be negative, gave -1"),
        (np.full((6, 8), 3_000_000_000), "must not be above 2147483647, gave 3000000000"),
        (np.full((6, 8), 2**64 - 1, np.uint64), "must not be above 2147483647, gave 18446744073709551615"),
    ],
)
def test_a_plugins_fault_is_its_own(monkeypatch, answer, said):
    monkeypatch.setattr(plugins, "_loader", lambda name: lambda argument, device: lambda rgb, prompts=(): answer)
    with pytest.raises(ShapeError, match=f"segmenter odd: .*{said}"):
        load_segmenter("odd", "cpu")(RGB)


def counting(rgb, prompts=()):
    """A plugin that minds no prompt."""
    return np.arange(rgb.shape[0] * rgb.shape[1]).reshape(rgb.shape[:2]) % 4


def loaded(monkeypatch, segment):
    monkeypatch.setattr(plugins, "_loader", lambda name: lambda argument, device: segment)
    return load_segmenter("odd", "cpu")


def test_what_anothers_code_raises_is_told_in_one_line(monkeypatch):
    def fails(rgb, prompts=()):
        raise ValueError("no network here")

    def no_checkpoint(argument, device):
        raise FileNotFoundError("checkpoint.pt is missing")

    with pytest.raises(OptionError, match=r"^--segmenter odd: failed on a picture, ValueError: no network here$"):
        loaded(monkeypatch, fails)(RGB)
    monkeypatch.setattr(plugins, "_loader", lambda name: no_checkpoint)
    said = r"^--segmenter odd:x: could not be loaded, FileNotFoundError: checkpoint\.pt is missing$"
    with pytest.raises(OptionError, match=said):
        load_segmenter("odd:x", "cpu")


@pytest.mark.parametrize("takes", ["points", ("touch",), ("points", "touch")])
def test_takes_must_be_what_can_be_taken(monkeypatch, takes):
    def one(rgb, prompts=()):
        return np.ones(rgb.shape[:2], int)

    one.takes = takes
    with pytest.raises(OptionError, match=r"^--segmenter odd: its `takes` is .*; a tuple of any of 'points', 'words'"):
        loaded(monkeypatch, one)


PROMPTS = {"points": Prompt(points=((1, 2),)), "words": Prompt(text="a swan")}


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_prompts_are_given_to_those_that_say_they_take_them(monkeypatch, kind):
    def one(rgb, prompts=()):
        return np.ones(rgb.shape[:2], int)

    with pytest.raises(OptionError, match=rf"^--segmenter odd takes no {kind}; [^\n]+$"):
        loaded(monkeypatch, one)(RGB, [PROMPTS[kind]])
    one.takes = tuple(other for other in plugins.KINDS if other != kind)
    with pytest.raises(OptionError, match=rf"^--segmenter odd takes no {kind}; [^\n]+$"):
        loaded(monkeypatch, one)(RGB, [PROMPTS[kind]])
    one.takes = (kind,)
    assert (loaded(monkeypatch, one)(RGB, [PROMPTS[kind]]) == 1).all()


def test_regions_nobody_asked_for_do_not_pass_for_objects(monkeypatch):
    monkeypatch.setattr(counting, "takes", ("words",), raising=False)
    find = loaded(monkeypatch, counting)
    assert find(RGB).max() == 3
    assert find(RGB, [PROMPTS["words"]] * 3).max() == 3
    with pytest.raises(ShapeError, match=r"^segmenter odd: asked for 2 objects, ids 1\.\.2, gave 3"):
        find(RGB, [PROMPTS["words"]] * 2)
    with pytest.raises(ShapeError, match=r"^segmenter odd: asked for one object, id 1, gave 3"):
        find(RGB, [PROMPTS["words"]])


def masks() -> list[np.ndarray]:
    """A large one, one on it, and one below."""
    large, small, below = (np.zeros((6, 8), bool) for _ in range(3))
    large[0:4, 2:8], small[1:3, 3:5], below[5, :] = True, True, True
    return [below, small, large]


def test_small_masks_lie_on_large_ones_and_are_numbered_in_raster_order():
    below, small, large = masks()
    ids = ids_of_masks([below, small, large, large & small], (6, 8))
    assert ids.dtype == np.int32
    assert (ids[0, 2], ids[1, 3], ids[5, 0], ids[4, 0]) == (1, 2, 3, 0)
    assert ids.max() == 3  # one of the two equal ones is wholly covered
    assert not ids_of_masks([], (6, 8)).any()


def test_any_ids_are_numbered_in_raster_order():
    ids = np.array([[0, 9, 9, 2**31 - 1], [5, 0, 9, 5]])
    ordered = in_raster_order(ids)
    assert ordered.dtype == np.int32
    assert ordered.tolist() == [[0, 1, 1, 2], [3, 0, 1, 3]]
    assert in_raster_order(np.full((2, 2), 7, np.uint8)).tolist() == [[1, 1], [1, 1]]
    assert not in_raster_order(np.zeros((2, 2), np.int64)).any()


def test_masks_of_prompts_keep_their_order():
    ids = ids_of_masks(masks(), (6, 8), in_order=True)
    assert (ids[5, 0], ids[1, 3], ids[0, 2]) == (1, 2, 3)


# -- SAM 2 ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sam2(monkeypatch) -> SimpleNamespace:
    """A package sam2 that does nothing but remember what it was asked."""
    seen = SimpleNamespace(built=[], asked=[])

    class Generator:
        def __init__(self, model):
            assert model == "the model"

        def generate(self, rgb):
            return [{"segmentation": mask} for mask in masks()]

    class Predictor(Generator):
        def set_image(self, rgb):
            seen.image = rgb

        def predict(self, **said):
            seen.asked.append(said)
            below, small, large = masks()
            if said["multimask_output"]:
                return np.stack([below, small, large]).astype(np.float32), np.array([0.1, 0.9, 0.5]), None
            return large[None].astype(np.float32), np.array([0.3]), None

    def build_sam2(config, checkpoint, device):
        seen.built.append((config, checkpoint, device))
        if "broken" in checkpoint:
            raise RuntimeError("Missing key(s)\nin state_dict")
        return "the model"

    for name, what in {
        "sam2": {},
        "sam2.build_sam": {"build_sam2": build_sam2},
        "sam2.automatic_mask_generator": {"SAM2AutomaticMaskGenerator": Generator},
        "sam2.sam2_image_predictor": {"SAM2ImagePredictor": Predictor},
    }.items():
        module = ModuleType(name)
        vars(module).update(what)
        monkeypatch.setitem(sys.modules, name, module)
    return seen


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "sam2.1_hiera_base_plus.pt"
    path.touch()
    return path


def test_sam2_finds_everything(sam2, checkpoint):
    ids = load_segmenter(f"sam2:{checkpoint}", "cpu")(RGB)
    assert sam2.built == [("configs/sam2.1/sam2.1_hiera_b+.yaml", str(checkpoint), "cpu")]
    assert np.array_equal(ids, ids_of_masks(masks(), (6, 8)))


def test_sam2_takes_points(sam2, checkpoint):
    prompts = [Prompt(points=((3, 1),)), Prompt(points=((2, 0),), not_points=((4, 2),))]
    ids = load_segmenter(f"sam2:{checkpoint}", "cpu")(RGB, prompts)
    assert (ids[1, 3], ids[0, 2], ids[5, 0]) == (1, 2, 0)
    one, two = sam2.asked
    assert (one["multimask_output"], two["multimask_output"]) == (True, False)
    assert (one["point_coords"].tolist(), one["point_labels"].tolist()) == ([[3, 1]], [1])
    assert (two["point_coords"].tolist(), two["point_labels"].tolist()) == ([[2, 0], [4, 2]], [1, 0])


def test_a_click_is_what_sam2_says_of_it(sam2, checkpoint):
    """Of a film ten times the picture's size; the region under the click, of all that SAM 2 finds, is another."""
    segmenter = Segmenter(AnalysisOptions(f"sam2:{checkpoint}", min_area=0), torch.device("cpu"))
    (found,) = segmenter(torch.zeros(1, 3, 6, 8))
    _, small, large = masks()
    click, size = ObjectStyle("swan", "wave", (25, 5)), (60, 80)
    assert np.array_equal(place_mask(click, found, segmenter, size), small)
    assert sam2.asked[0]["point_coords"].tolist() == [[2, 0]]
    assert np.array_equal(place_mask(click, found, segmenter, size, [(45, 25)]), large)
    assert sam2.asked[1]["point_coords"].tolist() == [[2, 0], [4, 2]]
    assert sam2.asked[1]["point_labels"].tolist() == [1, 0]
    under = object_mask(click, found.ids, found.regions, size)
    assert not np.array_equal(under, small)
    for by_region in (replace(click, remove=True), replace(click, point=None, region=int(found.ids[0, 2]))):
        assert np.array_equal(place_mask(by_region, found, segmenter, size), under)
    assert len(sam2.asked) == 2
    with pytest.raises(OptionError, match=r"object 'swan' @80,5: outside the frame, which is 80x60 pixels"):
        place_mask(replace(click, point=(80, 5)), found, segmenter, size)


def test_sam2_takes_no_words(sam2, checkpoint):
    with pytest.raises(OptionError, match=r"^--segmenter sam2 takes no words; point at it, as in NAME@320,240"):
        load_segmenter(f"sam2:{checkpoint}", "cpu")(RGB, [Prompt(text="a swan")])


def test_what_sam2_lacks_is_said_in_one_line(sam2, checkpoint, tmp_path, monkeypatch):
    assert "needs a checkpoint; write sam2:/path/to/sam2.1_hiera_tiny.pt" in refused("sam2")
    assert "no such file; give a checkpoint of SAM 2" in refused(f"sam2:{tmp_path}/sam2_hiera_tiny.pt")
    (tmp_path / "mine.pt").touch()
    assert "its name does not tell its size" in refused(f"sam2:{tmp_path}/mine.pt")
    (tmp_path / "broken_sam2_hiera_tiny.pt").touch()
    assert "is not the checkpoint its name says (Missing key(s))" in refused(
        f"sam2:{tmp_path}/broken_sam2_hiera_tiny.pt"
    )
    monkeypatch.setitem(sys.modules, "sam2", None)
    assert "needs the package sam2" in refused(f"sam2:{checkpoint}")
    assert "pip install 'streamstyle[sam2]'" in refused(f"sam2:{checkpoint}")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sam2_hiera_tiny.pt", "configs/sam2/sam2_hiera_t.yaml"),
        ("sam2.1_hiera_small.pt", "configs/sam2.1/sam2.1_hiera_s.yaml"),
        ("sam2.1_hiera_large.pt", "configs/sam2.1/sam2.1_hiera_l.yaml"),
    ],
)
def test_a_checkpoints_name_tells_its_configuration(name, config):
    assert config_of(Path("/weights") / name) == config
