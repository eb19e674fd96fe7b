"""Each stage alone, with nothing beside it, and the parts of painting."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamstyle.bench.jobs import Film, Ticks
from streamstyle.frames import FrameBatch, output_chroma
from streamstyle.gpu.streams import Download
from streamstyle.gpu.transfer import Planes, upload
from streamstyle.job import River
from streamstyle.look import Look
from streamstyle.media.encode import encode
from streamstyle.naming import place_objects
from streamstyle.nets.stylenet import StyleNet
from streamstyle.objects.appearance_tracks import EAGER_FRAMES
from streamstyle.objects.segmenter import Segmenter
from streamstyle.pipeline import QUEUE_BATCHES, begin, end, read
from streamstyle.scene import follow, seen_alone
from streamstyle.stages.color import yuv_to_rgb
from streamstyle.stages.composite import composite
from streamstyle.stages.resize import resize_planes, small_size
from streamstyle.stages.style_map import blend_map
from streamstyle.stages.stylize_int8 import region_stylizer
from streamstyle.stages.stylize_regions import Affine, RegionStylizer, blend_table
from streamstyle.stylizer import Stylizer

KEPT_BYTES = 1 << 30
"""Frames kept in memory between decoding and painting alone; a longer film is painted in part."""
STYLE_COUNTS = (1, 2, 4, 8)
TRACKED_FRAMES = 13 + EAGER_FRAMES
"""Frames that are followed; those that begin a shot, which are all looked at, are not counted."""
ENOUGH_S, FEWEST_RUNS, MOST_RUNS = 0.4, 3, 20
"""A call is timed again until so much time is spent on it, within these numbers of runs."""


def decode_alone(film: Film, batch_frames: int) -> tuple[float, list[FrameBatch]]:
    """Milliseconds a frame, and the frames, as many as fit in KEPT_BYTES."""
    ticks, kept, room_bytes = Ticks(), list[FrameBatch](), KEPT_BYTES
    for batch in film.batches(batch_frames):
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
    film: Film, batches: list[FrameBatch], device: torch.device, styles: int, every: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds a frame of the parts of painting, and of the network by styles; see report.Resolution."""
    color, batch = film.info.color, batches[0]
    host = (batch.y, batch.u, batch.v)
    planes = upload(host, device)
    rgb = yuv_to_rgb(planes, color)
    parts = {"upload": time_ms(device, lambda: yuv_to_rgb(upload(host, device), color)) / len(batch)}
    parts["find"], parts["track"], maps = _following(film, batches, device, every)
    looks = torch.from_numpy(maps % max(2, styles)).to(device)
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
    film: Film, batches: list[FrameBatch], device: torch.device, every: int
) -> tuple[float, float, np.ndarray]:
    """Milliseconds a frame of looking for objects in every Nth frame, and of following them; and their last maps."""
    color, analysis = film.info.color, film.options.analysis
    segmenter = Segmenter(analysis, device, features=analysis.tracker == "appearance")
    planes = upload((batches[0].y, batches[0].u, batches[0].v), device)
    size = small_size(planes[0].shape, analysis.analysis_size)
    shrink_ms = time_ms(device, lambda: _shrunk(planes, size)) / len(batches[0])
    small = _shrunk(planes, size)
    together = (len(batches[0]) - 1) // every + 1  # as many as one batch has to look at
    at_once = yuv_to_rgb((small[0][:together], small[1][:together], small[2][:together]), color)
    look_ms = time_ms(device, lambda: segmenter(at_once)) / together
    analysis = dataclasses.replace(analysis, analyse_every=every)
    tracks, took_ms, maps = follow(segmenter, analysis, (), find=True), list[float](), list[np.ndarray]()
    for i, frame in enumerate(itertools.islice(_small_frames(batches, device, size), TRACKED_FRAMES)):
        (look,) = tracks.plan(i, [0], [i / 25])
        found = segmenter(yuv_to_rgb(frame, color))[0] if look else None
        began = time.perf_counter()
        luma, motion = seen_alone(tracks, frame)
        maps.append(tracks.step(luma, found, 0, i, i / 25, (film.size[1], film.size[0]), motion))
        took_ms.append((time.perf_counter() - began) * 1e3)
    settled = took_ms[1 + EAGER_FRAMES :]
    rounds = settled[: len(settled) // every * every] or took_ms  # of looking and carrying, whole ones
    return shrink_ms + look_ms / every, statistics.mean(rounds), np.stack(maps[-len(batches[0]) :])


def _small_frames(batches: list[FrameBatch], device: torch.device, size: tuple[int, int]) -> Iterator[Planes]:
    """Frames one by one at the analysis size, each [1, h, w]."""
    for batch in batches:
        small = _shrunk(upload((batch.y, batch.u, batch.v), device), size)
        for i in range(len(batch)):
            yield small[0][i : i + 1], small[1][i : i + 1], small[2][i : i + 1]


def _shrunk(planes: Planes, size: tuple[int, int]) -> Planes:
    """y, u and v at the analysis size."""
    y, u, v = (resize_planes(plane, size) for plane in planes)
    return y, u, v


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

    def once() -> float:
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - began) * 1e3

    once()
    taken: list[float] = []
    while len(taken) < FEWEST_RUNS or (sum(taken) < ENOUGH_S * 1e3 and len(taken) < MOST_RUNS):
        taken.append(once())
    return statistics.median(taken)
