from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import audio_packets, make_clip, video_times

from streamstyle.errors import InputError, OutputError
from streamstyle.media.decode import decode
from streamstyle.media.label_track import LabelTrack
from streamstyle.media.masks import PALETTE
from streamstyle.media.probe import probe
from streamstyle.media.stills import read_still
from streamstyle.tracks.export import LabelledFrame, export
from streamstyle.tracks.target import check_tracks

Image = pytest.importorskip("PIL.Image")
NAMES = {1: "disc", 2: "object 2"}


@pytest.fixture
def clip(tmp_path) -> Path:
    return make_clip(tmp_path / "in.mp4", frames=6, size=(160, 120))


def labelled(source: Path, label: int = 1) -> Iterator[LabelledFrame]:
    for i, frame in enumerate(decode(probe(source))):
        labels = np.zeros((30, 40), np.int32)
        labels[5:20, 4 + i : 15 + i] = label
        yield LabelledFrame(frame, labels)


def others(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"in.mp4"}


def test_masks_as_davis_has_them(tmp_path, clip):
    out = tmp_path / "masks" / "%05d.png"
    check_tracks(clip, out, False)
    assert export(labelled(clip), out, probe(clip), NAMES).frames == 6
    assert sorted(others(tmp_path / "masks")) == [f"{i:05d}.png" for i in range(6)]
    for i in range(6):
        still = read_still(tmp_path / "masks" / f"{i:05d}.png")
        assert (still.kind, still.pixels.shape) == ("palette", (120, 160))
        assert np.unique(still.pixels).tolist() == [0, 1]
        expected = np.zeros((120, 160), bool)
        expected[20:80, 16 + 4 * i : 60 + 4 * i] = True
        assert ((still.pixels == 1) == expected).mean() > 0.999
    colors = Image.open(tmp_path / "masks" / "00000.png").convert("RGB")
    assert np.array_equal(np.unique(np.array(colors).reshape(-1, 3), axis=0), PALETTE[:2])


def test_masks_replace_those_of_a_longer_film_and_only_those(tmp_path, clip):
    out = tmp_path / "masks" / "%05d.png"
    out.parent.mkdir()
    kept = {"notes.txt", "a00001.png", "7.png", "2024.png", "0000123.png"}
    for name in ("00009.png", "123456.png", *kept):
        (out.parent / name).write_text("old")
    with pytest.raises(OutputError, match="2 masks are there already; add --overwrite"):
        check_tracks(clip, out, False)
    check_tracks(clip, out, True)
    export(labelled(clip), out, probe(clip), NAMES)
    assert others(out.parent) == {f"{i:05d}.png" for i in range(6)} | kept


def test_a_film_with_its_objects_its_sound_and_its_times(tmp_path, clip):
    out = tmp_path / "out.mp4"
    written = export(labelled(clip), out, probe(clip), NAMES)
    assert (written.frames, written.audio) == (6, "copied")
    assert video_times(out) == video_times(clip)
    assert [data for _, data in audio_packets(out)] == [data for _, data in audio_packets(clip)]
    before, after = (next(decode(probe(path))) for path in (clip, out))
    apart = np.abs(before.y.astype(int) - after.y)
    assert apart[24:76, 20:56].mean() > 10 * apart[90:].mean()


def test_a_label_track(tmp_path, clip):
    export(labelled(clip, 300), tmp_path / "labels.npz", probe(clip), NAMES)
    with LabelTrack(tmp_path / "labels.npz") as track:
        assert (len(track), track.size, track.names) == (6, (30, 40), NAMES)
        assert track.check(probe(clip)) == []
        assert [frame.pts for frame in decode(probe(clip))] == track.pts.tolist()
        assert np.array_equal(track[2], next(f.labels for i, f in enumerate(labelled(clip, 300)) if i == 2))


@pytest.mark.parametrize("out", ["masks/%05d.png", "out.mp4", "labels.npz"])
def test_an_error_on_the_way_leaves_nothing_and_closes_the_source(tmp_path, clip, out):
    closed = []

    def failing() -> Iterator[LabelledFrame]:
        try:
            yield from list(labelled(clip))[:2]
            raise InputError("it broke")
        finally:
            closed.append(True)

    with pytest.raises(InputError, match="it broke"):
        export(failing(), tmp_path / out, probe(clip), NAMES)
    assert closed == [True]
    assert others(tmp_path) == set()


@pytest.mark.parametrize("out", ["masks/%05d.png", "out.mp4", "labels.npz"])
def test_no_frames_are_refused(tmp_path, clip, out):
    with pytest.raises(InputError, match="no frames to write"):
        export(iter(()), tmp_path / out, probe(clip), NAMES)
    assert others(tmp_path) == set()


def test_more_objects_than_a_mask_holds_are_refused(tmp_path, clip):
    with pytest.raises(OutputError, match="a mask holds 254 objects, frame 0 has number 255"):
        export(labelled(clip, 255), tmp_path / "masks" / "%d.png", probe(clip), NAMES)
    assert others(tmp_path) == set()


def test_frames_are_counted(tmp_path, clip):
    counts: list[int] = []
    export(labelled(clip), tmp_path / "labels.npz", probe(clip), NAMES, on_frames=counts.append)
    assert counts == [1] * 6
