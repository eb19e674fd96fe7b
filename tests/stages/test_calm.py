"""Blending along the motion: what is carried, what is not, and what OpenCV and torch agree on."""

from __future__ import annotations

import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.stages.calm import bend, calm, carried_along, color_held, inner, sharpness, trust, unbent, unit
from streamstyle.stages.calm_cpu import Workspace

SIZE, SMALL = (96, 128), (48, 64)


def smooth(*shape: int, seed: int = 0) -> torch.Tensor:
    """A random picture without detail finer than some pixels, 0..1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, shape[0], shape[1] // 8, shape[2] // 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=shape[1:], mode="bicubic")[0].clamp(0, 1)


def maps(shift: tuple[float, float] = (0, 0), **other: torch.Tensor) -> dict[str, torch.Tensor]:
    """The small maps of calm, with one motion everywhere."""
    flow = torch.tensor(shift, dtype=torch.float32).expand(*SMALL, 2).contiguous()
    whole = {
        "flow": flow,
        "to_anchor": flow.clone(),
        "anchored": torch.ones(SMALL, dtype=torch.bool),
        "share": torch.ones(SMALL),
        "still": torch.zeros(SMALL, dtype=torch.bool),
        "sharpen": torch.tensor(0.0),
    }
    return whole | other


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_a_pan_is_carried_to_where_it_went(impl):
    film = smooth(3, 96, 160)
    before, now = film[..., :128], film[..., 4:132]
    shown = calm(torch.zeros_like(now), before, before, **maps((2, 0)), refresh=0.0, impl=impl)
    assert torch.allclose(shown[..., 4:-8], now[..., 4:-8], atol=1e-4)


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_the_last_picture_is_read_where_the_anchor_has_nothing(impl):
    anchored = torch.ones(SMALL, dtype=torch.bool)
    anchored[:, 32:] = False
    previous, anchor = torch.full((3, *SIZE), 0.25), torch.full((3, *SIZE), 0.75)
    shown = calm(torch.zeros(3, *SIZE), previous, anchor, **maps(anchored=anchored), refresh=0.0, impl=impl)
    assert torch.allclose(shown[..., :64], anchor[..., :64], atol=1e-4)
    assert torch.allclose(shown[..., 64:], previous[..., 64:], atol=1e-4)


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_what_is_still_is_kept_to_the_bit_and_what_is_not_trusted_is_new(impl):
    still = torch.zeros(SMALL, dtype=torch.bool)
    still[:24] = True
    painted, previous = smooth(3, *SIZE, seed=1), smooth(3, *SIZE, seed=2)
    shown = calm(painted, previous, previous, **maps(still=still, share=torch.zeros(SMALL)), impl=impl)
    assert torch.equal(shown[:, :48], previous[:, :48])
    assert torch.allclose(shown[:, 48:], painted[:, 48:], atol=2e-5)


@pytest.mark.parametrize("sharpen", [0.0, 0.4])
def test_opencv_and_torch_agree(sharpen):
    generator = torch.Generator().manual_seed(3)
    flow = torch.rand(*SMALL, 2, generator=generator) * 2 - 1
    chosen = {
        "flow": carried_along(flow, flow),
        "to_anchor": carried_along(flow, flow) * 2,
        "anchored": torch.rand(SMALL, generator=generator) > 0.3,
        "share": torch.rand(SMALL, generator=generator),
        "still": torch.rand(SMALL, generator=generator) > 0.8,
        "sharpen": torch.tensor(sharpen),
    }
    pictures = [smooth(3, *SIZE, seed=k) for k in range(3)]
    one, other = (calm(*pictures, **chosen, impl=impl) for impl in ("auto", "ref"))
    assert (one - other).abs()[:, 4:-4, 4:-4].max() < 0.02  # OpenCV reads at 1/32 px
    assert (one - other).abs().mean() < 2e-3


def test_memory_that_is_kept_and_how_pictures_lie_change_nothing():
    workspace = Workspace()
    for size in (SIZE, SIZE, (50, 70)):
        pictures = [smooth(3, *SIZE, seed=k)[:, : size[0], : size[1]].contiguous() for k in range(3)]
        chosen = maps((1.3, -0.7), sharpen=torch.tensor(0.2), share=torch.rand(SMALL))
        one = calm(*pictures, **chosen)
        kept = one.clone()
        beside = [picture.permute(1, 2, 0).contiguous().permute(2, 0, 1) for picture in pictures]
        assert torch.equal(calm(*beside, **chosen, workspace=workspace), one)
        calm(*pictures[::-1], **chosen, workspace=workspace)
        assert torch.equal(one, kept)


def test_opencv_and_torch_hold_the_same_colours():
    generator = torch.Generator().manual_seed(5)
    flow = carried_along(torch.rand(*SMALL, 2, generator=generator) * 4 - 2, torch.zeros(*SMALL, 2))
    chroma = (smooth(2, *SMALL, seed=7) * 255).to(torch.uint8)
    painted_in = chroma.float() + 20 * smooth(2, *SMALL, seed=8)
    one, other = (color_held(flow, chroma, painted_in, impl=impl) for impl in ("auto", "ref"))
    assert torch.allclose(one[0], other[0], atol=0.05)
    assert torch.allclose(one[1], other[1], atol=1)
    assert 0.1 < one[0].mean() < 0.9


def test_what_is_not_carried_has_no_bend():
    bent, carried = torch.rand(*SMALL, 4), torch.rand(SMALL) > 0.5
    before, unbended = bent.clone(), unit(SMALL, bent.device)
    assert torch.equal(unbent(bent, carried), torch.where(carried[..., None], bent, unbended))
    assert torch.equal(unbent(bent, ~carried), torch.where(carried[..., None], unbended, bent))
    assert torch.equal(bent, before)


@pytest.mark.parametrize("with_looks", [False, True])
def test_opencv_and_torch_trust_the_same(with_looks):
    generator = torch.Generator().manual_seed(4)
    luma, previous = ((smooth(1, *SMALL, seed=k)[0] * 255).to(torch.uint8) for k in (5, 6))
    flow = (torch.rand(*SMALL, 2, generator=generator) * 6 - 3).round()
    looks = torch.zeros(SMALL, dtype=torch.int32)
    looks[:, 30:] = 1
    pair = (looks, looks.roll(2, 1)) if with_looks else ()
    near = ~inner(looks, 5) if with_looks else None
    one, other = (
        trust(flow, luma, previous, previous.float(), *pair, near_border=near, impl=impl) for impl in ("auto", "ref")
    )
    assert torch.allclose(one[0], other[0], atol=1e-3)
    assert torch.allclose(one[1], other[1], atol=1e-2)


@pytest.mark.parametrize("reach_px", [0, 2, 7])
def test_opencv_and_torch_find_the_same_within_a_look(reach_px):
    looks = (smooth(1, *SMALL, seed=9)[0] * 3).to(torch.int32) * 1000
    one, other = (inner(looks, reach_px, impl=impl) for impl in ("auto", "ref"))
    assert torch.equal(one, other)
    assert bool(one.all()) == (reach_px == 0)


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_what_comes_from_outside_the_picture_is_not_trusted(impl):
    """Not even by a part of a pixel: in a slow pan that adds up, and the border is drawn out into stripes."""
    luma = torch.full(SMALL, 90, dtype=torch.uint8)
    for shift, lost in (
        ((-0.4, 0.4), SMALL[0] + SMALL[1] - 1),
        ((0, 0), 0),
        ((1, 0), SMALL[0]),
        ((0, -2), 2 * SMALL[1]),
    ):
        flow = torch.tensor(shift, dtype=torch.float32).expand(*SMALL, 2).contiguous()
        share, _ = trust(flow, luma, luma, luma.float(), impl=impl)
        assert int((share == 0).sum()) == lost


def test_other_looks_and_other_pictures_are_not_trusted():
    luma = (smooth(1, *SMALL)[0] * 255).to(torch.uint8)
    flow = torch.zeros(*SMALL, 2)
    looks = torch.zeros(SMALL, dtype=torch.int32)
    looks[:, 32:] = 1
    assert trust(flow, luma, luma, luma.float(), looks, looks)[0].min() == 1
    born = trust(flow, luma, luma, luma.float(), looks, torch.zeros_like(looks))[0]
    assert born[:, 35:].max() == 0
    assert born[:, :32].min() == 1
    other = trust(flow, luma, (luma.int() + 60).clamp(max=255).to(torch.uint8), luma.float())[0]
    assert other[luma < 190].max() == 0


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_near_a_border_less_is_trusted(impl):
    """Of what looks a little different, and of what motion stretches a little."""
    luma, flow = torch.full(SMALL, 90, dtype=torch.uint8), torch.zeros(*SMALL, 2)
    near = torch.zeros(SMALL, dtype=torch.bool)
    near[:, 32:] = True
    share, _ = trust(flow, luma + 12, luma, luma.float() + 12, near_border=near, impl=impl)
    assert share[:, :32].min() == 1
    assert share[:, 32:].max() < 0.9
    flow[..., 0] = 0.5 * torch.arange(SMALL[1])
    _, holds = bend(unit(SMALL, luma.device), flow, near, impl=impl)
    assert bool(holds[:, 3:32].all())
    assert not bool(holds[:, 32:-3].any())


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_strokes_turn_but_do_not_stretch(impl):
    y, x = (axis.float() for axis in torch.meshgrid(*map(torch.arange, SMALL), indexing="ij"))
    unit = torch.tensor([1.0, 0, 0, 1]).expand(*SMALL, 4).contiguous()
    turn, stretch = torch.stack([-y, x], 2) * 0.05, torch.stack([x, -y], 2) * 0.05
    inner = slice(16, 32), slice(20, 44)
    for flow, stays in ((turn, True), (stretch, False)):
        bent = unit
        for _ in range(18):
            bent, holds = bend(bent, flow, impl=impl)
        assert bool(holds[inner].all()) == stays
        assert bool(holds[inner].any()) == stays
    one, other = (bend(unit, turn.flip(0), impl=way)[0] for way in ("auto", "ref"))
    assert torch.allclose(one, other, atol=1e-4)


def test_sharpness_is_the_mean_square_of_the_laplacian():
    flat, board = torch.full((3, 32, 32), 0.5), torch.zeros(3, 32, 32)
    board[:, ::2, ::2] = board[:, 1::2, 1::2] = 1
    assert sharpness(flat) == 0
    assert sharpness(board) == pytest.approx(16)


def test_what_does_not_fit_is_refused():
    picture = torch.zeros(3, *SIZE)
    with pytest.raises(ShapeError, match="previous and anchor"):
        calm(picture, picture[:, 1:], picture, **maps())
    with pytest.raises(ShapeError, match="anchored and still"):
        calm(picture, picture, picture, **maps(still=torch.zeros(SMALL)))
    luma = torch.zeros(SMALL, dtype=torch.uint8)
    with pytest.raises(ShapeError, match="both be given"):
        trust(torch.zeros(*SMALL, 2), luma, luma, luma.float(), luma.int())
