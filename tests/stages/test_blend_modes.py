"""How paint is laid on a picture."""

import torch

from streamstyle.stages.blend_modes import laid_over, looked_up, soft_light


def test_numbers_are_looked_up_by_row():
    index = torch.tensor([[[0, 2], [1, 1]]], dtype=torch.int32)
    assert looked_up(torch.tensor([1.0, 2.0, 3.0]), index).tolist() == [[[[1, 3], [2, 2]]]]
    assert looked_up(torch.tensor([5.0]), None).tolist() == [[[[5]]]]


def test_soft_light_of_grey_changes_nothing_and_ends_stay():
    picture = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(soft_light(picture, torch.full_like(picture, 0.5)), picture)
    ends = torch.tensor([0.0, 1.0])
    for paint in (0.0, 0.3, 1.0):
        torch.testing.assert_close(soft_light(ends, torch.full_like(ends, paint)), ends)
    assert (soft_light(picture, torch.ones_like(picture)) >= picture).all()
    assert (soft_light(picture, torch.zeros_like(picture)) <= picture).all()


def test_a_painting_is_laid_over_by_its_shares():
    painted, rgb = torch.rand(2, 3, 6, 8), torch.rand(2, 3, 6, 8)
    rows = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    luma = torch.tensor([0.2126, 0.7152, 0.0722]).view(1, 3, 1, 1)

    def laid(row):
        return laid_over(painted, rgb, rows, torch.full((2, 6, 8), row, dtype=torch.int32))

    torch.testing.assert_close(laid(0), rgb)
    torch.testing.assert_close(laid(1), painted)
    torch.testing.assert_close(laid(2), (painted + rgb) / 2)
    # The picture's colours: light as painted, differences of the colours as they were, where nothing is cut off.
    lighter = (luma * (painted - rgb)).sum(1, keepdim=True)
    torch.testing.assert_close(laid(3), (rgb + lighter).clamp(0, 1))
    torch.testing.assert_close(laid_over(painted, rgb, rows[2:3], None), (painted + rgb) / 2)
