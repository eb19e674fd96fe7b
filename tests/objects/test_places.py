import numpy as np
import pytest
import torch

from streamstyle.errors import OptionError
from streamstyle.look import ObjectStyle
from streamstyle.objects.places import object_mask, piece_at

IDS = torch.zeros(10, 20, dtype=torch.int32)
IDS[2:5, 3:8], IDS[6:9, 10:18] = 1, 2


def of(**place) -> ObjectStyle:
    return ObjectStyle("swan", "wave", **place)


@pytest.mark.parametrize(("point", "region"), [((30, 20), 1), ((79, 49), 1), ((100, 60), 2), ((179, 89), 2)])
def test_a_point_of_the_film_is_found_in_the_small_map(point, region):
    mask = object_mask(of(point=point), IDS, 3, (100, 200))
    np.testing.assert_array_equal(mask, IDS.numpy() == region)


def test_a_region_is_found_by_its_number():
    np.testing.assert_array_equal(object_mask(of(region=2), IDS, 3, (100, 200)), IDS.numpy() == 2)


@pytest.mark.parametrize("point", [(200, 0), (0, 100), (5000, 5000)])
def test_a_point_outside_is_refused_with_the_size(point):
    with pytest.raises(OptionError, match=r"outside the frame, which is 200x100 pixels"):
        object_mask(of(point=point), IDS, 3, (100, 200))


@pytest.mark.parametrize(("point", "near"), [((0, 0), 1), ((199, 99), 2)])
def test_a_point_on_the_background_is_refused_with_the_nearest_region(point, near):
    with pytest.raises(OptionError, match=rf"on no object.*nearest region is #{near}, see `streamstyle preview`"):
        object_mask(of(point=point), IDS, 3, (100, 200))


@pytest.mark.parametrize("region", [0, 3, 99])
def test_a_region_that_is_not_there_is_refused_with_those_that_are(region):
    with pytest.raises(OptionError, match=r"no such region; the regions are #1 \.\. #2"):
        object_mask(of(region=region), IDS, 3, (100, 200))


def test_a_picture_without_objects_says_so():
    for place in ({"region": 1}, {"point": (3, 4)}):
        with pytest.raises(OptionError, match="no region was found") as error:
            object_mask(of(**place), torch.zeros(10, 20, dtype=torch.int32), 1, (100, 200))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("at_s", "shown"), [(0.0, "`streamstyle preview`"), (2.5, "`streamstyle preview --at 2.5`")])
@pytest.mark.parametrize("place", [{"region": 9}, {"point": (0, 0)}])
def test_a_refusal_names_the_frame_whose_numbers_it_gives(at_s, shown, place):
    with pytest.raises(OptionError, match=rf"see {shown}"):
        object_mask(of(at_s=at_s, **place), IDS, 3, (100, 200))


# -- where no region is -----------------------------------------------------------------------------------------------


def moves() -> np.ndarray:
    """What moves: a ring at the left that touches itself by corners and reaches over region 1, and a bar at the top."""
    moving = np.zeros((10, 20), bool)
    moving[3:8, 1:6] = True
    moving[4:7, 2:5] = False
    moving[8, 0] = moving[0, 12:18] = True
    return moving


def click(x: int, y: int, **said) -> ObjectStyle:
    """A click on a pixel of the small map, which is a tenth of the film."""
    return of(point=(10 * x + 5, 10 * y + 5), **said)


def test_a_point_on_no_region_is_on_the_piece_that_moves():
    whole = np.zeros((10, 20), bool)
    whole[3:8, 1:6] = whole[8, 0] = True  # and what it encloses
    for x, y in ((1, 4), (2, 7), (0, 8)):
        np.testing.assert_array_equal(object_mask(click(x, y), IDS, 3, (100, 200), moves), whole)
    bar = np.zeros((10, 20), bool)
    bar[0, 12:18] = True
    np.testing.assert_array_equal(object_mask(click(13, 0), IDS, 3, (100, 200), moves), bar)


def test_where_a_region_is_nobody_asks_what_moves():
    def asked():
        raise AssertionError("asked")

    for thing in (click(4, 4), click(12, 7, remove=True), of(region=2)):
        mask = object_mask(thing, IDS, 3, (100, 200), asked)
        np.testing.assert_array_equal(mask, object_mask(thing, IDS, 3, (100, 200)))


@pytest.mark.parametrize("remove", [False, True])
def test_a_point_where_nothing_moves_is_refused_as_ever(remove):
    said = []
    for moving in (moves, None):
        with pytest.raises(OptionError, match="on no object") as error:
            object_mask(click(19, 0, remove=remove), IDS, 3, (100, 200), moving)
        said.append(str(error.value))
    assert (", which outlines what moves" in said[0]) != remove
    assert said[0].replace(", which outlines what moves", "") == said[1]


def test_what_moves_is_not_what_a_point_on_no_region_takes_away():
    with pytest.raises(OptionError, match="on no object, there is nothing to take away"):
        object_mask(click(13, 0, remove=True), IDS, 3, (100, 200), moves)


def test_a_piece_hangs_together_by_its_corners():
    mask = np.eye(4, dtype=bool)
    mask[0, 3] = True
    np.testing.assert_array_equal(piece_at(mask, 2, 2), np.eye(4, dtype=bool))
    np.testing.assert_array_equal(np.argwhere(piece_at(mask, 3, 0)), [[0, 3]])
    assert piece_at(mask, 1, 0) is None
