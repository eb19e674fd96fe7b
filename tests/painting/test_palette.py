"""What a frame is painted with: pigments, coats, and how they meet."""

import cv2
import numpy as np
import pytest
import torch

from streamstyle import Look, ObjectStyle, Options, Stylizer
from streamstyle.config import StyleOptions
from streamstyle.errors import InputError, OptionError, WeightsError
from streamstyle.painting.palette import Palette
from streamstyle.stages.blend_modes import laid_over
from streamstyle.stages.blends import LEVELS
from streamstyle.styles import canonical
from tests.johnson_nets import save, transformer

pytestmark = pytest.mark.weights
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def art(tmp_path_factory):
    """Paintings: a night, a fire, and a folder of both."""
    folder = tmp_path_factory.mktemp("art")
    noise = np.random.default_rng(1).random((96, 128, 3))
    for name, color in (("night.png", (0.6, 0.3, 0.1)), ("fire.png", (0.1, 0.3, 0.9))):
        strokes = cv2.GaussianBlur(noise, (0, 0), 3) - 0.5
        cv2.imwrite(str(folder / name), np.clip((strokes * 6 + color) * 255, 0, 255).astype(np.uint8))
    both = folder / "both"
    both.mkdir()
    for name in ("night.png", "fire.png"):
        (both / name).write_bytes((folder / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def picture():
    """A photo of sorts, [1, 3, 64, 96]."""
    noise = np.random.default_rng(2).random((64, 96, 3)).astype(np.float32)
    return torch.from_numpy(cv2.GaussianBlur(noise, (0, 0), 2) * 3 - 1).clamp(0, 1).permute(2, 0, 1)[None]


def palette(*styles, **options):
    return Palette([canonical(style) for style in styles], StyleOptions(**options), CPU, torch.float32)


def painted(styles, picture, look=0, time_s=0.0, **options):
    """A picture all in one of some styles."""
    with torch.inference_mode():
        made = palette(*styles, **options)
        worn = made.wear(made.record(picture), time_s, look)
        image = made.paint(picture, worn, None, None)
        return image if worn.shares is None else laid_over(image, picture, worn.shares, None)


def close(a, b, atol=2e-3):
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


@pytest.mark.parametrize("style", ["dot.png", "night.png#40,30,15,60", "folder/"])
def test_a_painting_too_small_to_be_one_is_refused(tmp_path, art, cached, style):
    (tmp_path / "folder").mkdir()
    (tmp_path / "night.png").write_bytes((art / "night.png").read_bytes())
    for name in ("dot.png", "folder/dot.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(InputError, match=r"\d+x\d+ px is too small for a painting; give more, at least 16 px"):
        palette(f"{tmp_path}/{style}")


def test_styles_of_one_network_share_a_pass(art, cached):
    made = palette("starry", "wave", "none", f"{art}/night.png", f"{art}/fire.png", f"{art}/night.png:1+wave:1")
    assert [len(coat.pigments) for coat in made.coats] == [2, 2]  # a blend of two networks needs no pigment of its own
    made = palette("starry", "wave:1+ember:1", "starry; strength=0.5", "starry; scale=2")
    assert [(coat.scale, len(coat.pigments)) for coat in made.coats] == [(1, 2), (2, 1)]
    assert not palette("none", "none; strength=0.3").paints


def test_a_blend_within_a_network_is_a_style_of_its_own(art, picture, cached):
    night, fire = (painted([f"{art}/{name}.png"], picture) for name in ("night", "fire"))
    blend = painted([f"{art}/night.png:0.5+{art}/fire.png:0.5"], picture)
    close(painted([f"{art}/both/"], picture), blend, 1e-4)  # a folder is the mean of its paintings
    nearer = [(blend - one).abs().mean() for one in (night, fire)]
    assert max(nearer) < (night - fire).abs().mean()
    assert min(nearer) > 0.01


def test_a_blend_across_networks_is_a_sum_of_pictures(art, picture, cached):
    one, other = painted(["wave"], picture), painted([f"{art}/night.png"], picture)
    close(painted([f"wave:0.25+{art}/night.png:0.75"], picture), 0.25 * one + 0.75 * other)


def test_strength_colours_and_light(picture, cached):
    whole = painted(["wave"], picture)
    close(painted(["wave; strength=0.3"], picture), picture + 0.3 * (whole - picture))
    close(painted(["wave:0.3+none:0.7"], picture), picture + 0.3 * (whole - picture))
    close(painted(["wave"], picture, strength=0.3), painted(["wave; strength=0.3"], picture))
    close(painted(["wave; strength=1"], picture, strength=0.3), whole)
    kept = painted(["wave; keep-colors"], picture)
    close(painted(["wave; blend=luminosity"], picture), kept)
    close(painted(["wave"], picture, keep_colors=True), kept)
    close(painted(["wave; keep-colors=no"], picture, keep_colors=True), whole)
    inside = ((kept > 0) & (kept < 1)).all(1, keepdim=True).expand_as(kept)
    for a, b in ((0, 1), (1, 2)):  # differences of the colours are the picture's
        here = inside[:, 0]
        close((kept[:, a] - kept[:, b])[here], (picture[:, a] - picture[:, b])[here])
    soft = painted(["wave; blend=soft-light"], picture)
    close(soft, (1 - 2 * whole) * picture**2 + 2 * whole * picture)


def test_keyframes_fade(art, picture, cached):
    key = f"none@1 > wave@3 > {art}/night.png@4"
    whole, other = painted(["wave"], picture), painted([f"{art}/night.png"], picture)
    for time_s, expected in (
        (0, picture),
        (1.5, picture + 0.25 * (whole - picture)),
        (3, whole),
        (3.5, (whole + other) / 2),
        (9, other),
    ):
        close(painted([key], picture, time_s=time_s), expected)
    made = palette(key, "ember")
    assert made.moment(0) == made.moment(0.5) != made.moment(2) != made.moment(2.1)
    assert made.moment(5) == made.moment(50)


def test_at_a_border_a_network_paints_its_own_style_alone(art, picture, cached):
    """Half and half of two networks' styles is the mean of the two pictures, not of a style with something else."""
    styles = [canonical(style) for style in ("wave", f"{art}/night.png", "ember")]
    with torch.inference_mode():
        made = Palette(styles, StyleOptions(), CPU, torch.float32)
        worn = made.wear(made.record(picture), 0.0)
        row = (0 * 3 + 1) * LEVELS  # half and half
        mixed = made.paint(picture, worn, torch.full((1, 64, 96), row, dtype=torch.int32), None)
        one, other = (made.paint_picture(picture, look) for look in (0, 1))
    close(mixed, (one + other) / 2)


def test_several_styles_in_one_pass_are_each_as_alone(art, picture, cached):
    styles = [canonical(style) for style in (f"{art}/night.png", f"{art}/fire.png", "none", "wave")]
    looks = np.zeros((1, 64, 96), np.int32)
    looks[:, :, 70:], looks[:, 40:, :48] = 1, 3
    with torch.inference_mode():
        made = Palette(styles, StyleOptions(), CPU, torch.float32)
        worn = made.wear(made.record(picture), 0.0)
        index = torch.from_numpy((looks * 4 + (looks == 0)) * LEVELS + LEVELS - 1).to(torch.int32)
        mixed = made.paint(picture, worn, index, looks)
        for look, part in ((0, np.s_[8:20, 8:40]), (1, np.s_[8:56, 84:92]), (3, np.s_[56:62, 4:24])):
            alone = made.paint_picture(picture, look)
            off = (mixed[0] - alone[0])[:, part[0], part[1]].abs()
            assert off.mean() < 0.03  # a neighbour within the network's sight may be felt
    assert worn.shares is not None
    assert worn.shares[(2 * 4 + 0) * LEVELS + LEVELS - 1].tolist() == [0, 0]
    assert worn.shares[(1 * 4 + 2) * LEVELS].tolist() == [0.5, 0.5]


def test_a_network_of_ones_own_paints_beside_the_others(art, picture, tmp_path, cached):
    file = save(tmp_path / "candy.safetensors", transformer(blocks=1).state_dict())
    own = painted([str(file)], picture)
    close(painted([f"{file}:0.5+wave:0.5"], picture), (own + painted(["wave"], picture)) / 2)
    made = palette(str(file), "none", f"{file}; strength=0.5")
    assert len(made.coats) == 1
    assert made.files == [file]


@pytest.mark.parametrize("size", [(101, 133), (16, 16), (1, 1)])
def test_any_size_is_painted_at_any_stroke_scale(size, art, cached):
    picture = torch.rand(1, 3, *size)
    for style in ("wave; scale=2", f"{art}/night.png; scale=0.5", f"wave:1+{art}/night.png:1; scale=1.5"):
        image = painted([style], picture)
        assert image.shape == picture.shape
        assert 0 <= image.min() <= image.max() <= 1


def test_a_named_part_is_painted_alone_and_as_the_whole_is(cached):
    """With the rest kept, only a box of the frame goes through the network; what comes out is what the whole gives."""
    frame = (np.random.default_rng(5).random((192, 256, 3)) * 255).astype(np.uint8)
    frame = cv2.GaussianBlur(frame, (0, 0), 3)
    options = Options(device="cpu", painting=StyleOptions(precision="float32"))
    looks = np.zeros((1, 192, 256), np.int32)
    looks[:, 80:112, 96:128] = 1
    rgb = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        made = Palette(["none", "wave"], options.painting, CPU, torch.float32)
        worn = made.wear(made.record(rgb), 0.0)
        index = torch.from_numpy((looks * 2 + 1 - looks) * LEVELS + LEVELS - 1).to(torch.int32)
        calls = []
        painter = made.coats[0].painter
        paint = painter.paint
        painter.paint = lambda image, *rest: calls.append(image.shape) or paint(image, *rest)  # type: ignore
        part = made.paint(rgb, worn, index, looks)
        whole = made.paint(rgb, worn, index, None)
    assert calls[0][2] * calls[0][3] < calls[1][2] * calls[1][3]
    close(part[:, :, 76:116, 92:132], whole[:, :, 76:116, 92:132], 1e-4)


def test_what_cannot_be_read_is_told_before_anything_is_painted(tmp_path):
    for style, kind, said in (
        (f"{tmp_path}/gone.jpg", InputError, "no such file"),
        (f"{tmp_path}/gone.safetensors", WeightsError, "no such file"),
        (f"{tmp_path}/", InputError, "a folder without pictures"),
    ):
        with pytest.raises(kind, match=said) as error:
            Stylizer(Look(style=style))
        assert "\n" not in str(error.value)


def test_more_styles_than_a_pixel_can_tell_apart_are_refused():
    objects = tuple(ObjectStyle(f"o{k}", f"wave; strength={k / 100}", (1, 1)) for k in range(1, 33))
    with pytest.raises(OptionError, match="give at most 32"):
        Stylizer(Look(background="none", objects=objects))


@pytest.mark.parametrize(
    "style", ["starry; strength=0.5", "starry; keep-colors", "starry; blend=soft-light", "starry:1+{art}/night.png:1"]
)
def test_one_style_on_all_objects_is_painted_as_on_the_whole(style, art, picture, cached):
    """One look, and rows of its table nonetheless: the rows of a look and itself."""
    style = canonical(style.format(art=art))
    with torch.inference_mode():
        made = Palette([style], StyleOptions(), CPU, torch.float32)
        recorded = made.record(picture)
        rows = torch.full((1, 64, 96), LEVELS - 1, dtype=torch.int32)
        worn, alone = made.wear(recorded, 0.0), made.wear(recorded, 0.0, 0)
        mixed = made.paint(picture, worn, rows, np.zeros((1, 16, 24), np.int32))
        close(mixed, made.paint(picture, alone, None, None))
        if worn.shares is not None:
            close(laid_over(mixed, picture, worn.shares, rows), laid_over(mixed, picture, alone.shares, None), 1e-6)


def test_an_own_network_at_the_foot_of_a_film_of_cinema_size(tmp_path, cached):
    file = save(tmp_path / "candy.safetensors", transformer(blocks=1).state_dict())
    looks = np.zeros((1, 54, 128), np.int32)
    looks[:, 40:, 30:60] = 1
    rgb = torch.rand(1, 3, 858, 2048)
    with torch.inference_mode():
        made = Palette(["none", str(file)], StyleOptions(), CPU, torch.float32)
        worn = made.wear(made.record(rgb[:, :, :96, :128]), 0.0)
        assert made.paint(rgb, worn, torch.zeros(1, 858, 2048, dtype=torch.int32), looks).shape == rgb.shape
