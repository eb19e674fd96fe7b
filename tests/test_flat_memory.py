"""However long a film is, a job holds as much of it: what is carried from frame to frame, and what waits in queues."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip

from streamstyle import pipeline
from streamstyle.config import AnalysisOptions, Options, OutputOptions, StyleOptions
from streamstyle.frames import Checkpoint, ColorTags, Frame, FrameBatch
from streamstyle.job import MOST_WORKERS
from streamstyle.look import Look, ObjectStyle
from streamstyle.media import encode
from streamstyle.media.states import read_state, write_state
from streamstyle.objects import tracker
from streamstyle.objects.foresight import FORESIGHT_FRAMES
from streamstyle.painting.frame_painter import Painting, Reading
from streamstyle.pipeline import stylize
from streamstyle.stages.color import rgb_to_yuv
from streamstyle.stylizer import Stylizer
from tests.faults import stalls
from tests.mottled_film import BLUE, GREY, RED, Film, Thing

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("networks")]
PERIOD = 20
"""Frames after which the film below begins anew, with a cut."""
LIGHTS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda rgb: rgb,
    lambda rgb: 255 - rgb,
    lambda rgb: rgb // 3,
    lambda rgb: 255 - rgb // 3,
    lambda rgb: rgb // 2 + 100,
)
"""Of one period after the other: more than there are shots that are remembered."""
EARLY, LATE = range(40, 100, 4), range(140, 200, 4)
"""Alike in the film below, which begins anew after len(LIGHTS) periods."""


def coming_and_going() -> Film:
    """A thing that stays and may be named; one crosses the picture, another comes from behind a post; all once more in
    every period. The ground is another's in every other one."""

    def crossing(i: int) -> tuple[int, int]:
        return 20, -40 + 14 * (i % PERIOD)

    def behind(i: int) -> tuple[int, int]:
        return 96, 60 + 6 * (i % PERIOD)

    return Film(
        [
            Thing(RED, 30, lambda i: (56, 10 + 2 * (i % PERIOD))),
            Thing(BLUE, 32, crossing, round=True),
            Thing(BLUE, 26, behind),
            Thing(GREY, 44, lambda i: (88, 100)),
        ]
    )


@pytest.fixture
def frozen() -> Iterator[None]:
    """What is there already is no more looked at."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_what_is_carried_from_frame_to_frame_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: None
) -> None:
    monkeypatch.setattr(tracker, "MOST_ENDED", 2)  # what ended is reported, up to twice as many
    film, named = coming_and_going(), ObjectStyle("it", "starry", (10, 35))
    look = Look(background="none", foreground="wave", objects=(named,))
    options = Options(AnalysisOptions(analysis_size=72, analyse_every=2), StyleOptions(calm=1))
    stylizer, state, sizes, tensors = Stylizer(look, options), tmp_path / "state", dict[int, int](), dict[int, int]()
    for i in range(LATE.stop):
        picture = np.ascontiguousarray(LIGHTS[i // PERIOD % len(LIGHTS)](film.picture(i)[::2, ::2]))
        rgb = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        planes = rgb_to_yuv(rgb, ColorTags(), subsample=True)
        batch = FrameBatch(*(plane.numpy() for plane in planes), (i,), i)
        stylizer.paint_batch(batch, ColorTags(), [i / 25])
        if i in EARLY or i in LATE:
            carried = stylizer.state_dict()
            write_state(state, carried)
            sizes[i] = state.stat().st_size
            del carried
            gc.collect()
            tensors[i] = sum(thing.nbytes for thing in gc.get_objects() if type(thing) is torch.Tensor)
    born = stylizer.state_dict()["reading"]["scene"]["tracks"]["tracker"]["next_id"]
    assert born > 12  # objects do come, and go
    for measured in (sizes, tensors):
        assert max(measured[i] for i in LATE) < 1.02 * max(measured[i] for i in EARLY)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Only what nobody holds is let go, not what holds itself."""
    gc.disable()
    yield
    gc.enable()


def test_a_state_in_a_file_is_let_go_at_once(tmp_path: Path, uncollected: None) -> None:
    array = np.arange(6)
    held = weakref.ref(array)
    write_state(tmp_path / "state", {"deep": [{"map": array}]})
    del array
    assert held() is None
    state = read_state(tmp_path / "state")
    held = weakref.ref(state["deep"][0]["map"])
    del state
    assert held() is None


def alive() -> Counter[type]:
    """How many frames and batches there are, and things that hold them."""
    held = (Frame, FrameBatch, Reading, Painting, Checkpoint, torch.Tensor)
    return Counter(type(thing) for thing in gc.get_objects() if type(thing) in held)


def test_while_the_encoder_stalls_what_waits_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: None
) -> None:
    """With all that may hold frames: objects that are looked for ahead, calm, segments, states of them."""
    frames, film, counts = 72, coming_and_going(), list[Counter[type]]()
    source = make_clip(tmp_path / "in.mp4", frames=frames, size=(192, 144), picture=lambda i, size: film.picture(i))
    monkeypatch.setattr(pipeline, "MOST_FRAMES", 2)
    monkeypatch.setattr(pipeline, "SEGMENT_FRAMES", (6, 6))
    stalls(monkeypatch, encode._SegmentWriter, "_taken", lambda: counts.append(alive()), 0.05)
    options = Options(AnalysisOptions(analysis_size=72), StyleOptions(calm=1), OutputOptions(preset="ultrafast"))
    stylize(source, tmp_path / "out.mp4", look=Look(background="none", foreground="wave"), options=options)
    assert len(counts) == frames
    # Three queues, a batch in the hands of each of their threads and of the encoder, one read ahead to know the last,
    # and the workers' (as many again wait for their turn).
    batches = 3 * pipeline.QUEUE_BATCHES + 5 + 2 * MOST_WORKERS
    early, late = ({kind: max(c[kind] for c in part) for kind in counts[0]} for part in (counts[12:36], counts[36:]))
    for most in (early, late):
        assert most[FrameBatch] + most[Reading] <= batches
        assert most[Frame] <= FORESIGHT_FRAMES + 2
    assert late[torch.Tensor] < 1.2 * early[torch.Tensor]
