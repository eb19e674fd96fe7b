"""Each stage alone, with nothing beside it, and the parts of painting."""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from streamstyle.bench.jobs import Film, Ticks, choose_look
from streamstyle.frames import Frame, FrameBatch, output_chroma
from streamstyle.gpu.streams import Download
from streamstyle.gpu.transfer import Planes, upload
from streamstyle.job import River
from streamstyle.look import Look
from streamstyle.media.encode import encode
from streamstyle.naming import place_objects
from streamstyle.nets.stylenet import StyleNet
from streamstyle.objects.appearance_tracks import EAGER_FRAMES
from streamstyle.pipeline import QUEUE_BATCHES, begin, end, read
from streamstyle.scene import SceneReader
from streamstyle.stages.color import yuv_to_rgb
from streamstyle.stages.composite import composite
from streamstyle.stages.style_map import blend_map
from streamstyle.stages.stylize_int8 import region_stylizer
from streamstyle.stages.stylize_regions import Affine, RegionStylizer, blend_table
from streamstyle.stylizer import Stylizer

KEPT_BYTES = 1 << 30
"""Frames kept in memory between decoding and painting alone; a longer film is painted in part."""
STYLE_COUNTS = (1, 2, 4, 8)
FOLLOWED_FRAMES = {"cpu": 24, "cuda": 48}
"""Frames that are counted of those that are followed: some rounds of looking and carrying, three batches or more."""
ENOUGH_S, FEWEST_RUNS, MOST_RUNS = 0.4, 3, 20
"""A call is timed again until so much time is spent on it, within these numbers of runs."""
T = TypeVar("T")


def decode_alone(film: Film, batch_frames: int, first: int | None = None) -> tuple[float, list[FrameBatch]]:
    """Milliseconds a frame, and the frames, as many as fit in KEPT_BYTES; batches as of Film.batches."""
    ticks, kept, room_bytes = Ticks(), list[FrameBatch](), KEPT_BYTES
    for batch in film.batches(batch_frames, first):
        ticks(len(batch))
        room_bytes -= batch.y.nbytes + batch.u.nbytes + batch.v.nbytes
        if room_bytes > 0 or len(kept) < 2:
            kept.append(batch)
    return ticks.steady_s() * 1e3, kept


def paint_alone(film: Film, batches: list[FrameBatch], look: Look) -> tuple[float, list[FrameBatch]]:
    """Milliseconds a frame of reading and painting frames in memory, by the threads a job has; and what was painted."""
    stylizer, info = Stylizer(look, film.options), film.info
    place_objects(stylizer, info)
    ticks, painted = Ticks(), []
    with River(QUEUE_BATCHES, stylizer.device, None, 0, None) as river:
        readings = river.thread("read", read(stylizer, (batch for batch in batches), info, 1 << 30))
        begun = river.share(functools.partial(begin, stylizer, film.size), readings)
        for batch in end(stylizer, film.size, begun):
            painted.append(batch)
            ticks(len(batch))
    return ticks.steady_s() * 1e3, painted


def encode_alone(film: Film, batches: list[FrameBatch]) -> float:
    """Milliseconds a frame of encoding frames in memory, the encoder's start and draining included."""
    began = time.perf_counter()
    encode(batches, film.target, film.info, film.out, size=film.size)
    return (time.perf_counter() - began) * 1e3 / sum(map(len, batches))


@torch.inference_mode()
def painting_parts(
    film: Film, batches: list[FrameBatch], device: torch.device, look: Look, styles: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds a frame of the parts of painting, and of the network by styles; see report.Resolution."""
    color, batch = film.info.color, max(batches, key=len)
    host = (batch.y, batch.u, batch.v)
    planes = upload(host, device)
    rgb = yuv_to_rgb(planes, color)
    parts = {"upload": time_ms(device, lambda: yuv_to_rgb(upload(host, device), color)) / len(batch)}
    parts["find"], parts["track"], maps = _following(film, batches, look, device)
    looks = torch.from_numpy(maps).to(device)
    size, feather_px = (film.size[1], film.size[0]), film.options.painting.feather
    parts["map"] = time_ms(device, lambda: blend_map(looks, max(2, styles), size, feather_px)) / len(looks)
    network, image = _time_network(film, rgb[:1], device, styles)
    parts["network_1"], parts["network_k"] = network["1"], network[str(styles)]
    first: Planes = (planes[0][:1], planes[1][:1], planes[2][:1])
    subsample = output_chroma(*film.size) == "yuv420p"
    original = first if (first[1].shape == first[0].shape) != subsample else None
    parts["download"] = time_ms(device, lambda: Download(composite(image, original, color, subsample=subsample)).wait())
    return parts, network


def _following(
    film: Film, batches: list[FrameBatch], look: Look, device: torch.device
) -> tuple[float, float, np.ndarray]:
    """Milliseconds a frame of looking for objects in some frames, and of following them; and the looks they wore.

    Both together are what a job's reading takes, of each batch the median of FEWEST_RUNS from the film's start. The
    looking in it is what it takes by itself, so it may not be more.
    """
    stylizer = Stylizer(look if look.needs_objects else choose_look(film, 2), film.options)
    place_objects(stylizer, film.info)
    reader = SceneReader(stylizer.look, film.options.analysis, device)
    assert reader.tracks is not None
    counted = settled([len(batch) for batch in batches], reader.tracks.every, FOLLOWED_FRAMES[device.type])
    found_ms, took_ms, maps = list[list[float]](), list[list[float]](), list[np.ndarray]()
    for _ in range(FEWEST_RUNS):
        reader.restart(stylizer.look)
        found, took, maps = _read_alone(film, reader, batches, counted.stop, device)
        found_ms.append(found[counted])
        took_ms.append(took[counted])
    frames = sum(len(batch) for batch in batches[counted])
    whole_ms = float(np.median(took_ms, 0).sum()) / frames
    find_ms = min(float(np.median(found_ms, 0).sum()) / frames, whole_ms)
    return find_ms, whole_ms - find_ms, np.concatenate(maps)[-max(map(len, batches)) :]


def settled(lengths: Sequence[int], every: int, enough: int) -> slice:
    """Which batches of so many frames count: whole rounds of every frames, after those that begin the film's shot.

    A shot's first frames are all looked at. No more batches than have enough frames; all, where there is no such round.
    """
    ends = [0, *itertools.accumulate(lengths)]
    first = next((i for i, end in enumerate(ends) if end > EAGER_FRAMES), len(lengths))
    rounds = [i for i in range(first + 1, len(ends)) if (ends[i] - ends[first]) % every == 0]
    if not rounds:
        return slice(0, len(lengths))
    return slice(first, next((i for i in rounds if ends[i] - ends[first] >= enough), rounds[-1]))


def _read_alone(
    film: Film, reader: SceneReader, batches: Sequence[FrameBatch], count: int, device: torch.device
) -> tuple[list[float], list[float], list[np.ndarray]]:
    """Milliseconds of shrinking the frames that are looked at with each batch and finding their regions; of reading it
    as a job does; its looks.

    Of so many batches; those after them are there to be followed with them. One after the other, batch by batch: what
    disturbs one disturbs the other.
    """
    info, segmenter, tracks = film.info, reader.segmenter, reader.tracks
    assert segmenter is not None
    assert tracks is not None
    frames = {number: frame for batch in batches for number, frame in enumerate(batch.unstack(), batch.index)}
    looked, wants = list[int](), tracks.wants

    def noted(index: int, shot: int, time_s: float) -> bool:
        wanted = wants(index, shot, time_s)
        looked.extend([index] if wanted else [])
        return wanted

    tracks.wants = noted  # type: ignore[method-assign]

    def find() -> None:
        seen = FrameBatch.stack([frames[number] for number in looked])
        planes = upload((seen.y, seen.u, seen.v), device)
        segmenter(yuv_to_rgb(reader.small(planes), info.color))

    def read_planes(planes: Planes, batch: FrameBatch) -> np.ndarray | None:
        times_s = [info.time_of(pts) for pts in batch.pts]
        ahead = functools.partial(_from, frames, batch.index + len(batch))
        return reader.read(planes, info.color, batch.index, times_s, ahead, info.time_of).looks

    found_ms, took_ms, maps = list[float](), list[float](), list[np.ndarray]()
    for batch in batches[:count]:
        planes = once_ms(device, functools.partial(upload, (batch.y, batch.u, batch.v), device))[1]
        looked.clear()
        ms, looks = once_ms(device, functools.partial(read_planes, planes, batch))
        assert looks is not None
        took_ms.append(ms)
        found_ms.append(once_ms(device, find)[0] if looked else 0.0)
        maps.append(looks)
    return found_ms, took_ms, maps


def _from(frames: dict[int, Frame], begin: int) -> Iterator[Frame]:
    """Frames by number, from one on."""
    return (frames[number] for number in range(begin, max(frames) + 1))


def _time_network(film: Film, rgb: Tensor, device: torch.device, styles: int) -> tuple[dict[str, float], Tensor]:
    """Milliseconds of one frame by the number of styles in it; and the frame painted in one style."""
    painting = film.options.painting
    stylenet = StyleNet.load()
    net = region_stylizer(stylenet, device, painting.precision, compile_lookup=painting.compile == "on")
    counts = sorted({*STYLE_COUNTS, styles})
    recorded = [net.record(rgb, stylenet.norms(style)) for style in range(counts[-1])]
    took = {}
    for count in counts:
        took[str(count)] = time_ms(device, _painter(net, rgb, recorded[:count], painting.feather))
    return took, net.paint(rgb, recorded[0])


def _painter(net: RegionStylizer, rgb: Tensor, styles: Sequence[Affine], feather_px: float) -> Callable[[], Tensor]:
    """Paints a frame of tiles, each in its style, with soft borders."""
    if len(styles) == 1:
        return lambda: net.paint(rgb, styles[0])
    size, count = (rgb.shape[2], rgb.shape[3]), len(styles)
    tiles = torch.arange(9 * 16, dtype=torch.int32).view(1, 9, 16) % count
    looks = tiles.repeat_interleave(8, 1).repeat_interleave(8, 2).to(rgb.device)
    index = blend_map(looks, count, size, feather_px)
    table = blend_table(styles)
    return lambda: net.paint(rgb, table, index)


def time_ms(device: torch.device, call: Callable[[], Any]) -> float:
    """Milliseconds of a call, after one to warm up: the median of several; waits for the device."""
    once_ms(device, call)
    taken: list[float] = []
    while len(taken) < FEWEST_RUNS or (sum(taken) < ENOUGH_S * 1e3 and len(taken) < MOST_RUNS):
        taken.append(once_ms(device, call)[0])
    return statistics.median(taken)


def once_ms(device: torch.device, call: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds of one call, and what it gave; waits for the device."""
    began = time.perf_counter()
    given = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) * 1e3, given
