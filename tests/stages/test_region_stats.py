import numpy as np
import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.stages.region_stats import region_areas, region_stats
from tests import oracles


def check(ids: torch.Tensor, regions: int) -> None:
    stats = region_stats(ids, regions)
    assert torch.equal(stats.area, region_areas(ids, regions))
    assert (stats.area.dtype, stats.box_xyxy.dtype, stats.centroid.dtype) == (torch.int64, torch.int64, torch.float64)
    assert stats.box_xyxy.shape == (len(ids), regions, 4)
    for i, frame in enumerate(ids.cpu().numpy()):
        measured = oracles.regions(frame)
        for region in range(regions):
            area, box, centroid = measured.get(region, (0, (0, 0, 0, 0), (0, 0)))
            assert stats.area[i, region] == area
            assert stats.box_xyxy[i, region].tolist() == list(box)
            np.testing.assert_allclose(stats.centroid[i, region].cpu(), centroid, atol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (17, 40), (60, 61)])
@pytest.mark.parametrize("grain", [1, 5])
def test_equals_scikit_image(device, size, grain):
    rng = np.random.default_rng(grain)
    maps = [oracles.dense(oracles.components(oracles.random_mask(rng, *size, d, grain), 4))[0] for d in (0, 0.4, 1)]
    check(torch.from_numpy(np.stack(maps)).to(device), max(int(m.max()) for m in maps) + 3)


@pytest.mark.parametrize("name", oracles.known_masks())
def test_known_pictures(name):
    check(torch.from_numpy(oracles.known_masks()[name].astype(np.int32))[None], 2)


def test_a_box_a_person_can_check():
    ids = torch.zeros(1, 6, 8, dtype=torch.int32)
    ids[0, 2:5, 3:7] = 2
    stats = region_stats(ids, 4)
    assert stats.area.tolist() == [[36, 0, 12, 0]]
    assert stats.box_xyxy[0].tolist() == [[0, 0, 8, 6], [0, 0, 0, 0], [3, 2, 7, 5], [0, 0, 0, 0]]
    assert stats.centroid[0, 2].tolist() == [4.5, 3.0]


def test_no_frames():
    stats = region_stats(torch.zeros(0, 4, 5, dtype=torch.int32), 3)
    assert [*stats.area.shape, *stats.box_xyxy.shape, *stats.centroid.shape] == [0, 3, 0, 3, 4, 0, 3, 2]


@pytest.mark.parametrize("ids", [torch.zeros(4, 4, dtype=torch.int32), torch.zeros(1, 4, 4)], ids=["no batch", "float"])
def test_another_shape_or_type_is_refused_and_shown(ids):
    for measure in (region_areas, region_stats):
        with pytest.raises(ShapeError) as error:
            measure(ids, 2)
        assert f"{ids.dtype} {list(ids.shape)}" in str(error.value)
