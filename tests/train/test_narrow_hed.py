import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from streamstyle.nets.hed import HED
from streamstyle.nets.hed_int8 import LARGEST
from streamstyle.nets.vgg import VGG16
from streamstyle.objects.appearance import LOOK_LAYERS
from streamstyle.train import narrow_hed
from streamstyle.train.narrow_hed import Lessons, Teachers, disturbed, drawn, errors, fit, scale, start, teach, telling

FEW, MORE = (4, 6, 8, 8), (8, 12, 16)
TERMS = torch.tensor(narrow_hed.TERMS)


def alive(net):
    """A network whose every layer has something to say."""
    for layer in narrow_hed._convolutions(net):
        torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.normal_(narrow_hed._bias(layer))
    return net.eval().requires_grad_(False)


def small(channels):
    """A HED of few channels."""
    net = alive(HED("3", len(channels), channels))
    net.get_submodule("side3").weight.data.div_(100)
    return net


def teachers_of(hed):
    return Teachers(hed, hed, alive(VGG16()))


def lessons(seed=0):
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8), (320, 240)) for _ in range(3)]
    return Lessons(pictures, seed)


def test_the_layers_taught_are_those_looked_at():
    assert narrow_hed.LAYERS == LOOK_LAYERS


def test_columns_that_tell_the_others_are_chosen():
    free = torch.randn(500, 3)
    values = torch.cat([free @ torch.randn(3, 5) * 0.1, free * 100, torch.zeros(500, 1)], 1)
    chosen = telling(values, 3)
    assert len(set(chosen)) == 3
    rest = values - values[:, chosen] @ torch.linalg.lstsq(values[:, chosen], values).solution
    assert rest.norm() < 1e-3 * values.norm()


def test_a_layer_is_fitted_to_what_another_gives():
    layer, found = (torch.nn.Conv2d(3, 5, 3, padding=1).requires_grad_(False) for _ in range(2))
    pictures = [torch.rand(2, 3, 20, 24) for _ in range(3)]
    fit(found, pictures, [layer(x) for x in pictures])
    torch.testing.assert_close(found.weight, layer.weight, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.bias, layer.bias, atol=2e-3, rtol=0)


def test_with_as_many_channels_the_start_is_the_same_network():
    hed, narrow = small(FEW), small(FEW)
    start(narrow, teachers_of(hed), [lessons().batch(8, 64) for _ in range(2)])
    batch = lessons(1).batch(2, 64)
    torch.testing.assert_close(narrow(batch), hed(batch), atol=0.01, rtol=0)
    assert errors(narrow, teachers_of(hed), batch)[:3].max() < 1e-3


def test_the_start_is_nearer_than_chance_and_lessons_bring_it_nearer():
    teachers, narrow = teachers_of(small(MORE)), small(FEW)
    batch = lessons(1).batch(4, 64)
    by_chance = (errors(narrow, teachers, batch) * TERMS).sum()
    start(narrow, teachers, [lessons().batch(8, 64) for _ in range(2)])
    at_start = (errors(narrow, teachers, batch) * TERMS).sum()
    assert at_start < 0.8 * by_chance
    means = list(teach(narrow, teachers, Lessons(lessons().pictures, 2, crop_px=64), 30))
    assert len(means) == 30
    assert (errors(narrow, teachers, batch) * TERMS).sum() < 0.9 * at_start
    assert not any(values.requires_grad for values in narrow.parameters())


def test_errors_of_the_teacher_itself_are_none_and_count_what_is_off():
    hed, other, batch = small(FEW), small(FEW), lessons().batch(2, 48)

    def teaches(batch):
        return hed.edges_and_features(batch, narrow_hed.LAYERS)

    itself = errors(hed, teaches, batch)
    torch.testing.assert_close(itself, torch.zeros(4), atol=2e-3, rtol=0)  # its own is in half precision
    assert (errors(other, teaches, batch) > 2 * itself).all()


def test_vgg_teaches_from_its_block_on():
    teachers, batch = teachers_of(small(MORE)), lessons().batch(2, 48)
    edges, features = teachers(batch)
    assert edges.shape == (2, 48, 48)
    assert [each.shape[1:] for each in features] == [(12, 24, 24), (16, 12, 12), (512, 6, 6)]
    assert torch.equal(features[2], teachers.vgg(batch, ["conv4_3"])["conv4_3"])
    assert [len(teachers.block(number)) for number in (1, 2, 3, 4)] == [2, 2, 3, 3]


def test_scaled_layers_give_what_they_gave_as_large_as_bytes_hold():
    net, batch = small(FEW), lessons().batch(4, 64)
    edges, features = net.edges_and_features(batch, narrow_hed.LAYERS)
    scale(net, [batch])
    layers = [(block, place + 1) for block in (1, 2, 3, 4) for place in range(len(LARGEST[block - 1]))]
    found, seen = net.edges_and_features(batch, layers)
    torch.testing.assert_close(found, edges, atol=1e-4, rtol=1e-3)
    mine = dict(zip(layers, seen, strict=True))
    for layer, before in zip(narrow_hed.LAYERS, features, strict=True):
        torch.testing.assert_close(F.normalize(mine[layer], dim=1), F.normalize(before, dim=1), atol=1e-4, rtol=0)
    for (block, place), values in mine.items():
        largest = LARGEST[block - 1][place - 1]
        assert largest / narrow_hed.HEADROOM * 0.98 < values.max() < 2 * largest, (block, place)


def test_lessons_are_crops_the_same_each_time():
    first, again, other = lessons().batch(9, 64), lessons().batch(9, 64), lessons(1).batch(9, 64)
    assert first.shape == (9, 3, 64, 64)
    assert first.dtype == torch.float32
    assert 0 <= first.min() < first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("size", [(1, 1), (20, 30)])
def test_what_is_disturbed_stays_a_picture(size):
    rng, picture = np.random.default_rng(0), np.full((*size, 3), 120, np.uint8)
    seen = [disturbed(picture, rng) for _ in range(40)]
    assert all(each.shape == picture.shape and each.dtype == np.uint8 for each in seen)
    assert len({each.tobytes() for each in seen}) > 10
    assert (picture == 120).all()


def test_what_is_drawn_is_flat_or_has_shapes():
    rng = np.random.default_rng(0)
    seen = [drawn(64, rng) for _ in range(40)]
    assert all(each.shape == (64, 64, 3) and each.dtype == np.uint8 for each in seen)
    levels = [len(np.unique(each.reshape(-1, 3), axis=0)) for each in seen]
    assert min(levels) == 1
    assert max(levels) > 20


def test_the_command_writes_a_network_that_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(narrow_hed, "FIT_BATCHES", 1)
    monkeypatch.setattr(narrow_hed, "CROP_PX", 64)
    monkeypatch.setattr(narrow_hed, "NARROW_CHANNELS", FEW)
    monkeypatch.setattr(HED, "load", lambda side: small(MORE))
    monkeypatch.setattr(narrow_hed.int8, "available", lambda: False)
    monkeypatch.setattr(VGG16, "load", lambda path, dtype: alive(VGG16()))
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8))
    (folder / "notes.txt").write_text("no picture")
    assert (
        narrow_hed.main([str(folder), "--vgg", "vgg.pth", "--out", str(tmp_path / "net.safetensors"), "--steps", "5"])
        == 0
    )
    assert "step 5: edges" in capsys.readouterr().out
    values = safetensors.torch.load_file(tmp_path / "net.safetensors")
    net = HED("3", 4, FEW)
    net.load_state_dict(values)
    assert all(each.dtype == torch.float16 for each in values.values())
    assert net.requires_grad_(False)(torch.rand(1, 3, 9, 9)).isfinite().all()


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ("nowhere", "no such file"),
        ("empty", "no picture is there; give a folder of photographs"),
        ("text.jpg", "not a picture that can be read"),
        ("thin.png", "at least 16"),
    ],
)
def test_what_cannot_be_taught_from_is_said_in_a_line(tmp_path, capsys, pictures, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no picture")
    cv2.imwrite(str(tmp_path / "thin.png"), np.zeros((4, 900, 3), np.uint8))
    assert (
        narrow_hed.main([str(tmp_path / pictures), "--vgg", "vgg.pth", "--out", str(tmp_path / "net.safetensors")]) == 2
    )
    told = capsys.readouterr().err
    assert told.startswith("narrow_hed: ")
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "net.safetensors").exists()


@pytest.mark.parametrize(
    ("out", "said"), [("there.safetensors", "is there already"), ("no/net.safetensors", "no such folder")]
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_taught(tmp_path, capsys, out, said):
    (tmp_path / "there.safetensors").write_bytes(b"kept")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    assert narrow_hed.main([str(tmp_path / "a.png"), "--vgg", "vgg.pth", "--out", str(tmp_path / out)]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "there.safetensors").read_bytes() == b"kept"


def test_too_few_steps_are_refused(tmp_path, capsys):
    given = [str(tmp_path), "--vgg", "vgg.pth", "--out", str(tmp_path / "net.safetensors"), "--steps", "0"]
    assert narrow_hed.main(given) == 2
    assert capsys.readouterr().err == "narrow_hed: --steps 0: too few; give at least 5\n"


@pytest.mark.parametrize("steps", [5, 50, 100, 101])
def test_any_number_of_steps_has_a_schedule(steps, monkeypatch):
    monkeypatch.setattr(narrow_hed, "errors", lambda narrow, *_: narrow.block1[0].weight.square().sum().expand(4))
    assert len(list(teach(small(FEW), None, lessons(), steps))) == steps


def test_a_disk_that_is_full_is_said_in_a_line(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(narrow_hed, "start", lambda *_: None)
    monkeypatch.setattr(narrow_hed, "teach", lambda *_: iter(()))
    monkeypatch.setattr(narrow_hed, "scale", lambda *_: None)
    monkeypatch.setattr(HED, "load", lambda side: small(MORE))
    monkeypatch.setattr(VGG16, "load", lambda path, dtype: alive(VGG16()))
    monkeypatch.setattr(narrow_hed.int8, "available", lambda: False)
    monkeypatch.setattr(narrow_hed.Path, "write_bytes", full)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 60, 3), np.uint8))
    assert narrow_hed.main([str(tmp_path / "a.png"), "--vgg", "vgg.pth", "--out", str(tmp_path / "net.st")]) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
