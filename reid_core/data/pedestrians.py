"""A person re-identification data set whose truth is known, drawn from nothing but code.

`render` writes Market-1501's folders and names, and beside them part masks, a table of attributes
and a description. People are drawn by `wardrobe`, places and cameras by `scenes`.
"""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from reid_core.data import scenes
from reid_core.data.wardrobe import (
    PARTS,
    Canvas,
    Look,
    Pose,
    draw_person,
    lookalikes,
    random_look,
)

__all__ = ["COLUMNS", "FOLDERS", "PARTS", "Shot", "hsv_features", "looks", "plan", "render"]

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
COLUMNS = (
    *("folder", "name", "identity", "camera", "view", "hair", "hat"),
    *("upper", "upper_colour", "upper_texture", "lower", "lower_colour", "lower_texture"),
    *("shoes", "bag", "occlusion", "occluder", "lookalike_group", "box_error"),
)
TRAIN_IMAGES, QUERIES, GALLERY_IMAGES = 8, 2, 9  # per identity
OCCLUDED_SHARE = 0.17
TALL = 320  # pixels; people are drawn at this height in a box as wide as their pose needs
NATIVE = (256, 128)  # the box is squeezed to this shape, as loaders do, and seen by the camera
SMALL = 150  # up to so many images, starting processes costs more than it saves


class Shot(NamedTuple):
    """One planned image; identity 0 is a distractor, -1 is junk."""

    folder: str
    name: str
    identity: int
    camera: int
    index: int  # counts the shots of this identity in this folder


def plan(identities: int = 340, cameras: int = 6, seed: int = 0) -> list[Shot]:
    """List every image of the data set without drawing any.

    Identities 1 to n are for training, the rest (0.3 of all, rounded) for the test. ValueError
    for fewer than 4 or more than 9999 identities, fewer than 2 or more than 99 cameras.
    """
    _check("identities", identities, 4, 9999)
    _check("cameras", cameras, 2, 99)
    random = np.random.default_rng([seed, 1])
    clock = np.full(cameras + 1, 25)
    shots: list[Shot] = []

    def add(folder: str, identity: int, chosen: np.ndarray) -> None:
        for index, camera in enumerate(chosen):
            clock[camera] += random.integers(5, 40)
            label = "-1" if identity < 0 else f"{identity:04d}"
            frame, sequence = clock[camera] % 1_000_000, 1 + clock[camera] // 1_000_000
            name = f"{label}_c{camera}s{sequence}_{frame:06d}_{random.integers(1, 9):02d}.jpg"
            shots.append(Shot(folder, name, identity, int(camera), index))

    train = identities - round(0.3 * identities)
    for identity in range(1, identities + 1):
        order = random.permutation(cameras) + 1
        if identity <= train:
            add(FOLDERS[0], identity, np.resize(order, TRAIN_IMAGES))
        else:  # the gallery sees at least two cameras, so that every query has a true match
            add(FOLDERS[1], identity, order[:QUERIES])
            add(FOLDERS[2], identity, np.resize(order, GALLERY_IMAGES))
    add(FOLDERS[2], 0, random.integers(1, cameras + 1, round(0.9 * identities)))
    add(FOLDERS[2], -1, random.integers(1, cameras + 1, max(1, round(40 / 340 * identities))))
    return shots


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(
            f"{name} must be from {low} to {high}, but {value} came: choose a number in between."
        )


def looks(identities: int = 340, seed: int = 0) -> dict[int, tuple[Look, str]]:
    """Identity to (look, look-alike group or ""); groups never straddle training and test."""
    random = np.random.default_rng([seed, 2])
    train = identities - round(0.3 * identities)
    people: dict[int, tuple[Look, str]] = {}
    for first, last in ((1, train), (train + 1, identities)):
        number = first
        while number <= last:
            count = int(random.choice((1, 2, 3, 4), p=(0.74, 0.11, 0.09, 0.06)))
            count = min(count, last - number + 1)
            group = lookalikes(random, count) if count > 1 else [random_look(random)]
            label = f"g{number:04d}" if count > 1 else ""
            people.update((number + i, (look, label)) for i, look in enumerate(group))
            number += count
    return people


def hsv_features(image: np.ndarray) -> np.ndarray:
    """Plain colour descriptor of an RGB image, uint8 (H, W, 3): float32 (768,).

    Six horizontal stripes, 8 x 4 x 4 HSV bins each, square root of the share of pixels; compare
    with the Euclidean distance.
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    ranges = [0, 180, 0, 256, 0, 256]
    stripes = np.array_split(hsv, 6)
    counts = [cv2.calcHist([s], [0, 1, 2], None, [8, 4, 4], ranges).ravel() for s in stripes]
    return np.concatenate([np.sqrt(c / c.sum()) for c in counts]).astype(np.float32)


# ---------------------------------------------------------------- one image


def _compose(shot: Shot, look: Look, seed: int) -> tuple[np.ndarray, np.ndarray, dict]:
    """Draw one shot: RGB uint8 (*NATIVE, 3), part ids uint8 NATIVE, its table columns."""
    random = np.random.default_rng(
        [seed, FOLDERS.index(shot.folder), shot.identity + 1, shot.index]
    )
    camera = scenes.camera_of(shot.camera, seed)
    view = ("front", "side", "back")[random.choice(3, p=camera.views)]
    pose, width, box_error = _pose(random, view, shot.identity < 0)
    spot = (random.uniform(80, scenes.WIDTH - 80), random.uniform(310, 430))
    box = (TALL, width)
    image = scenes.view(shot.camera, seed, spot, (pose.x, pose.y), pose.height, box)
    canvas = Canvas(image, np.zeros(box, np.uint8), random)
    lean = 0.10 if shot.camera % 2 else -0.10
    scenes.shadow(image, pose.x, pose.y, pose.height, lean)
    draw_person(canvas, look, pose)
    visible = np.count_nonzero(canvas.labels)
    occluder = "none"
    if random.random() < OCCLUDED_SHARE:
        occluder = str(random.choice(scenes.OCCLUDERS))
        _hide(canvas, occluder, pose, lean)
    left = np.count_nonzero((canvas.labels > 0) & (canvas.labels < PARTS["occluder"][0]))
    occlusion = 1 - left / visible if visible else 0.0
    facts = {"view": view, "occluder": occluder, "box_error": box_error}
    facts["occlusion"] = f"{occlusion:.3f}"
    image = cv2.resize(image, NATIVE[::-1], interpolation=cv2.INTER_AREA)
    labels = cv2.resize(canvas.labels, NATIVE[::-1], interpolation=cv2.INTER_NEAREST)
    return scenes.expose(image, camera, random), labels, facts


def _pose(random: np.random.Generator, view: str, junk: bool) -> tuple[Pose, int, str]:
    """A walking person in a detector's box, its width, and what is wrong with the box."""
    centre = {"front": 0.0, "side": math.pi / 2 * random.choice((-1, 1)), "back": math.pi}[view]
    yaw, stride = centre + random.uniform(-0.4, 0.4), random.uniform(0.10, 0.48)
    room = 0.09 * abs(math.cos(yaw)) + 0.40 * stride * abs(math.sin(yaw))
    width = round(TALL * (random.uniform(0.29, 0.31) + room))
    height, y = TALL * random.uniform(0.93, 0.965), TALL * random.uniform(0.97, 0.985)
    x = width * random.uniform(0.47, 0.53)
    error = str(random.choice(("none", "shift", "scale", "cut"), p=(0.76, 0.12, 0.06, 0.06)))
    if junk:
        error = str(random.choice(("background", "cut")))
        x += random.choice((-1, 1)) * random.uniform(44, 56) if error == "cut" else 500
        y += random.uniform(-30, 60)
    elif error == "shift":
        x, y = x + random.uniform(-20, 20), y + random.uniform(-28, 28)
    elif error == "scale":
        height *= random.uniform(0.72, 0.90)
        y -= random.uniform(0.2, 0.8) * (0.94 * TALL - height)
    elif error == "cut":
        height *= random.uniform(1.25, 1.6)
        y = 0.05 * TALL + height
    pose = Pose(
        x=x,
        y=y,
        height=height,
        yaw=yaw,
        phase=random.uniform(0, 2 * math.pi),
        stride=stride,
        raised=int(random.choice((-1, 0, 1), p=(0.07, 0.86, 0.07))),
    )
    return pose, width, error


def _hide(canvas: Canvas, occluder: str, pose: Pose, lean: float) -> None:
    """Put something between the camera and the person."""
    random = canvas.random
    x = pose.x + random.uniform(-0.16, 0.16) * pose.height
    if occluder != "passer-by":
        scenes.occlude(canvas, occluder, x, pose.y, pose.height)
        return
    side = random.choice((-1, 1))
    other = Pose(
        x=pose.x + side * random.uniform(0.16, 0.26) * pose.height,
        y=pose.y + 0.06 * pose.height,
        height=pose.height * random.uniform(0.98, 1.12),
        yaw=random.uniform(0, 2 * math.pi),
        phase=random.uniform(0, 2 * math.pi),
        stride=random.uniform(0.1, 0.4),
        raised=0,
    )
    scratch = canvas._replace(labels=np.zeros_like(canvas.labels))
    draw_person(scratch, random_look(random), other)
    canvas.labels[scratch.labels > 0] = PARTS["passer-by"][0]


# ---------------------------------------------------------------- files


def _palette_png(labels: np.ndarray) -> bytes:
    """Encode part ids as an 8-bit palette PNG, which OpenCV cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = labels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colours = b"".join(bytes(rgb) for _, rgb in PARTS.values())
    rows = np.zeros((height, width + 1), np.uint8)  # each row starts with filter type 0
    rows[:, 1:] = labels
    pixels = zlib.compress(rows.tobytes(), 6)
    chunks = ((b"IHDR", header), (b"PLTE", colours), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def _write(folder: Path, shot: Shot, look: Look, group: str, seed: int, size) -> dict:
    """Draw and save one shot with its mask; return its row of the table."""
    image, labels, facts = _compose(shot, look, seed)
    if size != NATIVE:
        enlarge = size[0] > NATIVE[0] or size[1] > NATIVE[1]
        how = cv2.INTER_CUBIC if enlarge else cv2.INTER_AREA
        image = cv2.resize(image, size[::-1], interpolation=how)
        labels = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)
    quality = scenes.camera_of(shot.camera, seed).quality
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    (folder / shot.folder / shot.name).write_bytes(data.tobytes())
    mask = folder / "masks" / shot.folder / shot.name.replace(".jpg", ".png")
    mask.write_bytes(_palette_png(labels))
    worn = {column: getattr(look, column, "") for column in COLUMNS}
    return {**worn, **shot._asdict(), **facts, "lookalike_group": group}


def _work(folder: str, shots: list[tuple[Shot, Look, str]], seed: int, size) -> list[dict]:
    """Write a chunk of shots; runs in a process of its own for large data sets."""
    cv2.setNumThreads(1)
    return [_write(Path(folder), *shot, seed, size) for shot in shots]


def _dressed(shots: list[Shot], identities: int, seed: int) -> Iterator[tuple[Shot, Look, str]]:
    """Give every shot its look; distractors and junk are strangers."""
    people = looks(identities, seed)
    for shot in shots:
        if shot.identity > 0:
            yield shot, *people[shot.identity]
        else:
            random = np.random.default_rng([seed, 3, shot.identity + 1, shot.index])
            yield shot, random_look(random), ""


def render(
    root: Path,
    *,
    identities: int = 340,
    cameras: int = 6,
    seed: int = 0,
    size: tuple[int, int] = (256, 128),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw the data set into the folder `root`, which must be missing or empty.

    `size` is (height, width) in pixels, at least (32, 16). `progress(done, total)` counts
    finished images. The same arguments give the same bytes. Whatever goes wrong, `root` is left
    as it was. Raises ValueError for arguments out of range and FileExistsError if `root` holds
    anything.
    """
    root = Path(root).absolute()
    height, width = size
    if height < 32 or width < 16:
        raise ValueError(
            f"size must be at least 32 x 16 pixels (height, width), but {height} x {width} came: "
            "choose a larger one, such as (128, 64)."
        )
    shots = plan(identities, cameras, seed)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(
            f"{root} already exists and is not an empty folder: choose another one or empty it."
        )
    partial = root.parent / f".{root.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for folder in FOLDERS:
            (partial / folder).mkdir(parents=True)
            (partial / "masks" / folder).mkdir(parents=True)
        dressed = list(_dressed(shots, identities, seed))
        rows = _draw_all(partial, dressed, seed, (height, width), progress)
        about = {"identities": identities, "cameras": cameras, "seed": seed, "size": size}
        _describe(partial, rows, about)
        if root.exists():
            root.rmdir()  # os.replace onto an empty folder fails on Windows
        os.replace(partial, root)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _draw_all(folder: Path, dressed: list, seed: int, size, progress) -> list[dict]:
    """Write all shots, in this process or several; rows come back in the order of the plan."""
    total, done = len(dressed), 0
    length = 24 if total <= SMALL else 60
    chunks = [dressed[i : i + length] for i in range(0, total, length)]
    rows: list[list[dict]] = [[] for _ in chunks]

    def note(position: int, finished: list[dict]) -> None:
        nonlocal done
        rows[position] = finished
        done += len(finished)
        if progress:
            progress(done, total)

    if total <= SMALL:
        for position, chunk in enumerate(chunks):
            note(position, _work(str(folder), chunk, seed, size))
        return [row for part in rows for row in part]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 32), mp_context=spawn) as pool:
        try:
            jobs = {
                pool.submit(_work, str(folder), chunk, seed, size): position
                for position, chunk in enumerate(chunks)
            }
            for job in as_completed(jobs):
                note(jobs[job], job.result())
        except BaseException:  # do not draw the rest before the caller hears of it
            pool.shutdown(cancel_futures=True)
            raise
    return [row for part in rows for row in part]


def _describe(folder: Path, rows: list[dict], arguments: dict) -> None:
    """Write the table of attributes, the palette and the description."""
    with (folder / "attributes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    palette = {name: {"id": number, "rgb": rgb} for name, (number, rgb) in PARTS.items()}
    about = {"generator": "reid_core pedestrians", "version": 1, **arguments}
    for path, value in (("masks/palette.json", palette), ("dataset.json", about)):
        (folder / path).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
