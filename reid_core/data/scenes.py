"""Places for the known-answer data set: camera scenes, occluders and what a camera does.

A scene is a wide uint8 picture with a horizon, painted once per camera and process; every image
is a crop of it around the spot on the ground where the person stands.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import cv2
import numpy as np

from reid_core.data.wardrobe import Canvas, ellipse, limb, paint

HEIGHT, WIDTH = 460, 960
HORIZON = 130
OCCLUDERS = ("pole", "bicycle", "box", "bin", "hedge", "passer-by")
DRIFT = 0.04  # white balance of one picture, as cameras that adjust themselves have
KINDS = ("street", "campus", "corridor", "crossing", "shop front", "platform")


class Camera(NamedTuple):
    """How one camera sees: multiplicative colour cast, gamma, blur in pixels of 256, ..."""

    kind: str
    cast: tuple[float, float, float]
    gamma: float
    black: float  # brightness of black, 0 to 255 (haze)
    blur: float
    detail: float  # 1 keeps all pixels, 0.5 halves the resolution
    noise: float
    quality: int  # of the JPEG file
    views: tuple[float, float, float]  # share of front, side and back


_CAMERAS = (
    Camera("street", (1.00, 1.00, 1.00), 1.00, 2, 0.4, 1.00, 2.5, 90, (0.55, 0.20, 0.25)),
    Camera("campus", (1.02, 1.01, 0.94), 0.92, 4, 0.7, 0.80, 3.5, 82, (0.20, 0.20, 0.60)),
    Camera("corridor", (1.02, 0.97, 0.91), 1.12, 2, 0.5, 0.70, 5.0, 78, (0.45, 0.10, 0.45)),
    Camera("crossing", (0.95, 1.00, 1.04), 0.96, 8, 0.7, 0.66, 3.0, 74, (0.15, 0.65, 0.20)),
    Camera("shop front", (1.03, 0.98, 1.00), 1.06, 3, 0.5, 0.75, 4.0, 84, (0.25, 0.55, 0.20)),
    Camera("platform", (0.94, 1.01, 0.96), 1.14, 6, 0.7, 0.62, 5.0, 70, (0.35, 0.35, 0.30)),
)


@functools.lru_cache(maxsize=64)
def camera_of(number: int, seed: int) -> Camera:
    """Camera `number` (from 1); beyond six the kinds repeat with other colours and light."""
    base = _CAMERAS[(number - 1) % len(_CAMERAS)]
    random = np.random.default_rng([seed, 11, number])
    spread = 0.02 if number <= len(_CAMERAS) else 0.10
    cast = tuple(float(c) for c in np.array(base.cast) * random.uniform(1 - spread, 1 + spread, 3))
    return base._replace(cast=cast, gamma=base.gamma * random.uniform(1 - spread, 1 + spread))


def expose(image: np.ndarray, camera: Camera, random: np.random.Generator) -> np.ndarray:
    """What the camera makes of a float32 RGB picture (H, W, 3); returns uint8."""
    picture = cv2.convertScaleAbs(image)
    height, width = picture.shape[:2]
    detail = camera.detail * random.uniform(0.85, 1.0)
    if detail < 0.98:
        small = (round(width * detail), round(height * detail))
        picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    picture = cv2.GaussianBlur(picture, (5, 5), camera.blur * random.uniform(0.8, 1.3))
    y, x = random.integers(0, 256, 2)
    noise = _grain()[y : y + height, x : x + width] * np.float32(camera.noise)
    picture = cv2.add(picture, noise, dtype=cv2.CV_8U)
    light = random.uniform(0.92, 1.06) * random.uniform(1 - DRIFT, 1 + DRIFT, 3)
    gamma = camera.gamma * random.uniform(0.94, 1.06)
    ramp = np.linspace(0, 1, 256)[:, None] ** gamma * 255 * np.array(camera.cast) * light
    ramp = camera.black + ramp * (1 - camera.black / 255)
    table = np.uint8(np.clip(ramp, 0, 255)).reshape(256, 1, 3)
    return cv2.LUT(picture, table)


@functools.lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """Sensor noise with standard deviation 1, cut at random places."""
    return np.random.default_rng(5).standard_normal((512, 512, 3)).astype(np.float32)


# ---------------------------------------------------------------- scenes


def view(
    number: int,
    seed: int,
    spot: tuple[float, float],
    foot: tuple[float, float],
    height: float,
    size: tuple,
) -> np.ndarray:
    """Float32 (*size, 3) crop of a scene.

    The scene point `spot` comes to lie on the canvas point `foot`, and a person standing there
    is `height` canvas pixels tall.
    """
    scale = height / (0.92 * (spot[1] - HORIZON))
    matrix = np.array(
        ((scale, 0, foot[0] - scale * spot[0]), (0, scale, foot[1] - scale * spot[1]))
    )
    crop = cv2.warpAffine(scene(number, seed), matrix, size[::-1], borderMode=cv2.BORDER_REFLECT)
    return crop.astype(np.float32)


@functools.lru_cache(maxsize=16)
def scene(number: int, seed: int) -> np.ndarray:
    """The uint8 (HEIGHT, WIDTH, 3) scene of a camera."""
    random = np.random.default_rng([seed, 12, number])
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    painter = {
        "street": _street,
        "campus": _campus,
        "corridor": _corridor,
        "crossing": _crossing,
        "shop front": _shop_front,
        "platform": _platform,
    }[camera_of(number, seed).kind]
    painter(image, random)
    return _mute(image, random)


def _mute(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Make a place hazy, with little colour and contrast.

    Else the background alone tells the camera, and whoever compares colours finds places
    instead of people.
    """
    grey = image.mean(2, dtype=np.float32, keepdims=True)
    mottle = random.standard_normal((HEIGHT // 4, WIDTH // 4, 3)).astype(np.float32)
    mottle = cv2.resize(mottle, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    mottle -= mottle.mean(2, keepdims=True)
    return np.uint8(
        np.clip(160 + 0.58 * (grey - 150) + 0.27 * (image - grey) + 13 * mottle, 0, 255)
    )


def _gradient(image: np.ndarray, top: int, bottom: int, first: tuple, last: tuple) -> None:
    """Fill rows from top to bottom with a colour ramp."""
    ramp = np.linspace(0, 1, bottom - top)[:, None, None]
    image[top:bottom] = np.float32(first) + ramp * (np.float32(last) - np.float32(first))


def _roughen(image: np.ndarray, random: np.random.Generator, top: int, amount: float) -> None:
    """Add fine and coarse grain to the rows below top."""
    part = image[top:]
    shape = part.shape[:2]
    fine = random.standard_normal(shape).astype(np.float32)
    coarse = random.standard_normal((shape[0] // 12 + 2, shape[1] // 24 + 2)).astype(np.float32)
    grain = fine * amount + cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC) * amount
    part[...] = np.clip(part + grain[..., None], 0, 255)


def _polygon(image: np.ndarray, points: list, colour: tuple) -> None:
    cv2.fillPoly(image, [np.int32(np.array(points) * 16)], colour, cv2.LINE_AA, 4)


def _block(image: np.ndarray, left: float, top: float, right: float, bottom: float, colour) -> None:
    _polygon(image, [(left, top), (right, top), (right, bottom), (left, bottom)], colour)


def _rays(image: np.ndarray, top: int, colour: tuple, spread: float, wide: int = 1) -> None:
    """Floor lines below row top that would meet at the horizon."""
    near = (top - HORIZON) / (HEIGHT - HORIZON)
    for k in range(-30, 31):
        end = (int(WIDTH / 2 + k * spread), HEIGHT)
        start = (int(WIDTH / 2 + k * spread * near), top)
        cv2.line(image, start, end, colour, wide, cv2.LINE_AA)


def _rungs(image: np.ndarray, top: int, colour: tuple, count: int = 14, wide: int = 1) -> None:
    """Floor lines across, closer together in the distance."""
    for k in range(1, count + 1):
        y = int(HORIZON + (HEIGHT - HORIZON) * (1.35 / (1 + 0.35 * k)))
        if y > top:
            cv2.line(image, (0, y), (WIDTH, y), colour, wide, cv2.LINE_AA)


def _facade(image, random, left: int, right: int, bottom: int, wall: tuple) -> None:
    """A house front with rows of windows."""
    _block(image, left, 0, right, bottom, wall)
    shade = tuple(0.72 * c for c in wall)
    cv2.line(image, (right, 0), (right, bottom), shade, 3, cv2.LINE_AA)
    for x in range(left + 16, right - 30, 46):
        for y in range(8, bottom - 60, 58):
            glass = tuple(float(c) for c in np.array((92, 112, 132)) * random.uniform(0.6, 1.3))
            _block(image, x - 2, y - 2, x + 26, y + 40, (226, 222, 214))
            _block(image, x, y, x + 24, y + 38, glass)
            cv2.line(image, (x + 12, y), (x + 12, y + 38), (226, 222, 214), 1)
            cv2.line(image, (x - 4, y + 42), (x + 28, y + 42), shade, 2)
    _block(image, left, bottom - 12, right, bottom, shade)


def _car(image, x: float, y: float, size: float, colour: tuple) -> None:
    """A parked car seen from the side; y is where the wheels stand."""
    body = np.array([(0, -0.16), (0, -0.30), (0.2, -0.34), (0.36, -0.52), (0.78, -0.52)])
    body = np.concatenate((body, [(0.95, -0.33), (1.15, -0.28), (1.17, -0.12), (0, -0.10)]))
    glass = np.array([(0.26, -0.34), (0.38, -0.48), (0.76, -0.48), (0.88, -0.34)])
    _polygon(image, [(x + 4, y + 3), (x + 1.16 * size, y + 3), (x + size, y - 9)], (52, 52, 56))
    _polygon(image, body * size + (x, y), colour)
    _polygon(image, glass * size + (x, y), (58, 72, 84))
    for wheel in (0.25, 0.90):
        centre = (int(x + wheel * size), int(y - 0.09 * size))
        cv2.circle(image, centre, int(0.105 * size), (28, 28, 30), -1, cv2.LINE_AA)
        cv2.circle(image, centre, int(0.055 * size), (150, 152, 156), -1, cv2.LINE_AA)


def _tree(image, random, x: int, base: int, size: float) -> None:
    _block(image, x - 0.05 * size, base - 0.6 * size, x + 0.05 * size, base, (88, 66, 48))
    for _ in range(70):
        offset = random.normal(0, 1, 2) * (0.26 * size, 0.20 * size)
        centre = (int(x + offset[0]), int(base - 0.85 * size + offset[1]))
        light = random.uniform(0.65, 1.25) - 0.3 * offset[1] / size
        colour = tuple(float(c) for c in np.array((62, 104, 48)) * light)
        cv2.circle(image, centre, int(random.uniform(0.05, 0.11) * size), colour, -1, cv2.LINE_AA)


def _street(image: np.ndarray, random: np.random.Generator) -> None:
    walls = [(186, 150, 122), (208, 200, 184), (150, 92, 74), (176, 182, 186)]
    edges = [0, 210, 420, 690, WIDTH]
    for left, right, wall in zip(edges, edges[1:], random.permutation(walls), strict=False):
        _facade(image, random, left, right, 176, tuple(float(c) for c in wall))
    _gradient(image, 176, 236, (86, 86, 90), (108, 108, 112))
    for x in range(30, WIDTH, 230):
        colour = tuple(float(c) for c in random.integers(40, 210, 3))
        _car(image, x + random.uniform(-20, 20), 226, 150, colour)
    _gradient(image, 236, HEIGHT, (150, 146, 140), (184, 180, 174))
    _block(image, 0, 232, WIDTH, 242, (206, 204, 200))
    ground = image[244:].copy()
    _rays(image, 244, (140, 136, 130), 84)
    _rungs(image, 244, (140, 136, 130))
    image[244:] = cv2.addWeighted(image[244:], 0.75, ground, 0.25, 0)
    _roughen(image, random, 176, 4)


def _campus(image: np.ndarray, random: np.random.Generator) -> None:
    _gradient(image, 0, 142, (168, 200, 232), (214, 228, 238))
    _block(image, 0, 122, WIDTH, 142, (96, 122, 84))
    _block(image, 90, 34, 430, 150, (190, 160, 130))
    for x in range(104, 420, 36):
        for y in (48, 84, 120):
            _block(image, x, y, x + 20, y + 22, (92, 108, 122))
    _gradient(image, 142, HEIGHT, (98, 136, 70), (84, 132, 52))
    path = [
        (WIDTH * 0.48, 150),
        (WIDTH * 0.54, 150),
        (WIDTH * 0.92, HEIGHT),
        (WIDTH * 0.20, HEIGHT),
    ]
    _polygon(image, path, (202, 190, 166))
    _polygon(image, [(0, 300), (0, 352), (WIDTH, 268), (WIDTH, 236)], (198, 186, 160))
    _roughen(image, random, 140, 9)
    for x, base, size in ((60, 178, 130), (520, 170, 110), (700, 190, 150), (880, 182, 140)):
        _tree(image, random, x, base, size)
    for _ in range(500):
        x, y = int(random.uniform(0, WIDTH)), int(random.uniform(150, HEIGHT))
        if int(image[y, x, 1]) > int(image[y, x, 0]) + 20:
            tall = int(2 + (y - HORIZON) / 60)
            cv2.line(image, (x, y), (x + 1, y - tall), (120, 164, 76), 1, cv2.LINE_AA)


def _corridor(image: np.ndarray, random: np.random.Generator) -> None:
    image[:] = (206, 204, 194)
    _gradient(image, 0, 200, (226, 224, 214), (196, 192, 180))
    for x in range(20, WIDTH, 160):
        wood = tuple(float(c) for c in np.array((146, 104, 66)) * random.uniform(0.85, 1.15))
        _block(image, x - 5, 18, x + 83, 206, (112, 108, 100))
        _block(image, x, 22, x + 78, 206, wood)
        _block(image, x + 10, 40, x + 34, 110, (188, 206, 212))
        cv2.circle(image, (x + 68, 122), 4, (214, 206, 170), -1, cv2.LINE_AA)
        _block(
            image, x + 100, 60, x + 136, 108, tuple(float(c) for c in random.integers(70, 230, 3))
        )
    _block(image, 0, 196, WIDTH, 208, (92, 88, 82))
    _gradient(image, 208, HEIGHT, (164, 158, 146), (206, 200, 188))
    floor = image[208:].copy()
    _rays(image, 209, (126, 122, 112), 110, 2)
    _rungs(image, 209, (126, 122, 112), wide=2)
    image[208:] = cv2.addWeighted(image[208:], 0.6, floor, 0.4, 0)
    for x in range(120, WIDTH, 320):  # lamps mirrored in the polished floor
        glow = np.zeros((HEIGHT - 208, WIDTH), np.float32)
        cv2.ellipse(glow, (x, 110), (46, 120), 0, 0, 360, 34, -1)
        glow = cv2.GaussianBlur(glow, (0, 0), 18)
        image[208:] = np.clip(image[208:] + glow[..., None], 0, 255)
    _roughen(image, random, 0, 2)


def _crossing(image: np.ndarray, random: np.random.Generator) -> None:
    _gradient(image, 0, 152, (176, 190, 204), (206, 212, 216))
    for x in range(0, WIDTH, 120):
        top = int(random.uniform(0, 50))
        wall = tuple(float(c) for c in random.integers(110, 170) + random.integers(-16, 16, 3))
        _block(image, x, top, x + 112, 160, wall)
        for y in range(top + 10, 130, 16):
            _block(image, x + 8, y, x + 104, y + 8, tuple(0.66 * c for c in wall))
    _gradient(image, 152, HEIGHT, (82, 84, 90), (104, 104, 108))
    for x in (60, 330, 640, 820):
        _car(image, x, 196, 110, tuple(float(c) for c in random.integers(50, 220, 3)))
    for top, bottom in ((226, 262), (292, 372), (408, HEIGHT)):
        for k in range(-16, 17):
            a, b = ((y - HORIZON) / (HEIGHT - HORIZON) for y in (top, bottom))
            middle, step, wide = WIDTH / 2, 128, 62
            corners = [(middle + a * k * step, top), (middle + a * (k * step + wide), top)]
            corners += [(middle + b * (k * step + wide), bottom), (middle + b * k * step, bottom)]
            _polygon(image, corners, (216, 216, 210))
    _roughen(image, random, 152, 6)


def _shop_front(image: np.ndarray, random: np.random.Generator) -> None:
    image[:] = (122, 66, 58)
    for x in range(0, WIDTH, 240):
        stripe = tuple(float(c) for c in random.permutation([176, 60, 70]))
        _block(image, x + 8, 42, x + 232, 214, (44, 40, 40))
        _block(image, x + 14, 48, x + 150, 208, (214, 196, 150))
        _block(image, x + 160, 48, x + 226, 214, (120, 142, 150))
        for m in range(3):
            cloth = tuple(float(c) for c in random.integers(60, 220, 3))
            centre = x + 36 + m * 44
            cv2.circle(image, (centre, 92), 8, (196, 178, 160), -1, cv2.LINE_AA)
            outline = [(centre - 14, 106), (centre + 14, 106), (centre + 10, 150)]
            _polygon(image, [*outline, (centre + 16, 196), (centre - 16, 196)], cloth)
        cv2.line(image, (x + 20, 60), (x + 90, 200), (232, 222, 196), 2, cv2.LINE_AA)
        for k in range(14):
            colour = stripe if k % 2 else (236, 230, 220)
            a, b = x + 8 + k * 16, x + 24 + k * 16
            _polygon(image, [(a, 14), (b, 14), (b + 2, 50), (a - 2, 50)], colour)
    _gradient(image, 214, HEIGHT, (132, 116, 108), (172, 152, 140))
    _rays(image, 215, (112, 96, 90), 62)
    _rungs(image, 215, (112, 96, 90), 18)
    image[:208] = cv2.GaussianBlur(image[:208], (3, 3), 0.6)
    _roughen(image, random, 214, 5)


def _platform(image: np.ndarray, random: np.random.Generator) -> None:
    _gradient(image, 0, 60, (70, 76, 82), (96, 102, 108))
    _block(image, 0, 36, WIDTH, 210, (178, 186, 192))
    _block(image, 0, 150, WIDTH, 170, (36, 92, 150))
    for x in range(10, WIDTH, 128):
        _block(image, x, 64, x + 84, 128, (52, 64, 76))
        _polygon(image, [(x + 10, 66), (x + 34, 66), (x + 14, 126), (x + 2, 126)], (92, 108, 122))
        cv2.line(image, (x + 106, 44), (x + 106, 208), (112, 118, 124), 3, cv2.LINE_AA)
    _block(image, 0, 206, WIDTH, 222, (28, 28, 32))
    _gradient(image, 222, HEIGHT, (136, 140, 144), (170, 172, 174))
    _block(image, 0, 222, WIDTH, 232, (206, 206, 200))
    _block(image, 0, 246, WIDTH, 262, (222, 186, 50))
    for x in range(0, WIDTH, 9):
        cv2.circle(image, (x, 254), 3, (190, 152, 30), -1, cv2.LINE_AA)
    ground = image[264:].copy()
    _rays(image, 264, (120, 124, 128), 170, 2)
    _rungs(image, 264, (120, 124, 128), 8, 2)
    image[264:] = cv2.addWeighted(image[264:], 0.7, ground, 0.3, 0)
    _roughen(image, random, 222, 5)


# ---------------------------------------------------------------- in front of and below people


@functools.lru_cache(maxsize=1)
def _blob() -> np.ndarray:
    """Soft round spot (64, 64) from 0 at the rim to 1 in the middle."""
    axis = np.linspace(-1, 1, 64, dtype=np.float32)
    return np.clip(1 - np.hypot(axis[:, None], axis[None]), 0, 1) ** 0.8


def shadow(image: np.ndarray, x: float, y: float, height: float, lean: float) -> None:
    """Darken the ground under a person who is `height` pixels tall."""
    for wide, flat, shift, dark in ((0.34, 0.07, 0.0, 0.55), (0.55, 0.10, lean, 0.30)):
        scale = np.array((wide, flat)) * height / 64
        offset = (x + shift * height - 32 * scale[0], y - 0.012 * height - 32 * scale[1])
        matrix = np.array(((scale[0], 0, offset[0]), (0, scale[1], offset[1])))
        top, bottom = max(0, int(offset[1])), min(len(image), int(offset[1] + 64 * scale[1]) + 1)
        if bottom <= top:
            continue
        matrix[1, 2] -= top
        spot = cv2.warpAffine(_blob(), matrix, (image.shape[1], bottom - top))
        image[top:bottom] *= (1 - dark * spot)[..., None]


def occlude(canvas: Canvas, kind: str, x: float, foot: float, height: float) -> None:
    """Draw an obstacle in front of a person who is `height` pixels tall; x is its middle."""
    random = canvas.random
    ground = min(
        foot + 0.05 * height, len(canvas.image) + 2.0
    )  # in view even where the box cuts the legs off
    colours = ((168, 44, 40), (46, 96, 150), (52, 116, 74), (196, 160, 60), (92, 94, 100))
    colour = colours[random.integers(len(colours))]
    {
        "pole": _pole,
        "bicycle": _bicycle,
        "box": _crate,
        "bin": _bin,
        "hedge": _hedge,
    }[kind](canvas, x, ground, height, colour)


def _rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array(((left, top), (right, top), (right, bottom), (left, bottom)), float)


def _pole(canvas: Canvas, x: float, ground: float, height: float, colour: tuple) -> None:
    half = height * canvas.random.uniform(0.035, 0.07)
    bars = [_rectangle(x - half, -20, x + half, ground)]
    paint(canvas, "occluder", bars, (112, 116, 120), crease=0, round_=0.7)
    sign = [_rectangle(x - 1.6 * half, 0.30 * ground, x + 1.6 * half, 0.42 * ground)]
    paint(canvas, "occluder", sign, colour, crease=0, round_=0.2)


def _ring(centre: np.ndarray, outer: float, inner: float) -> np.ndarray:
    """A ring as one polygon that runs back inside itself."""
    a, b = ellipse(centre, outer, outer), ellipse(centre, inner, inner)
    return np.concatenate((a, a[:1], b[:1], b[::-1]))


def _bicycle(canvas: Canvas, x: float, ground: float, height: float, colour: tuple) -> None:
    radius = 0.19 * height
    left, right = (np.array((x + s * 0.27 * height, ground - radius)) for s in (-1, 1))
    for wheel in (left, right):
        paint(canvas, "occluder", [_ring(wheel, radius, 0.86 * radius)], (30, 30, 32), crease=0)
        spokes = [limb(wheel - p, wheel + p, 0.6, 0.6) for p in _spokes(radius * 0.86)]
        paint(canvas, "occluder", spokes, (160, 162, 166), crease=0, round_=0)
    crank = np.array((x - 0.02 * height, ground - 0.17 * height))
    seat = np.array((x - 0.10 * height, ground - 0.44 * height))
    bar = np.array((x + 0.19 * height, ground - 0.46 * height))
    pairs = [(left, crank), (left, seat), (crank, seat), (crank, bar), (seat, bar), (right, bar)]
    frame = [limb(a, b, 0.014 * height, 0.014 * height) for a, b in pairs]
    paint(canvas, "occluder", frame, colour, crease=0)
    grips = [limb(bar, bar - (0.05 * height, 0.06 * height), 0.014 * height, 0.014 * height)]
    grips.append(limb(seat - (0.05 * height, 4), seat - (-0.05 * height, 4), 5.0, 4.0))
    paint(canvas, "occluder", grips, (40, 36, 36), crease=0)


def _spokes(radius: float) -> list[np.ndarray]:
    angles = np.linspace(0, np.pi, 5, endpoint=False)
    return [radius * np.array((np.cos(a), np.sin(a))) for a in angles]


def _crate(canvas: Canvas, x: float, ground: float, height: float, colour: tuple) -> None:
    wide, tall = height * canvas.random.uniform((0.17, 0.24), (0.26, 0.42))
    front = _rectangle(x - wide, ground - tall, x + wide, ground + 8)
    lid = front[[0, 1, 1, 0]] + [(8, -14), (-8, -14), (0, 0), (0, 0)]
    paint(canvas, "occluder", [lid], (206, 170, 122), crease=0, round_=0.2)
    paint(canvas, "occluder", [front], (178, 138, 92), round_=0.25)
    tape = _rectangle(x - 5, ground - tall, x + 5, ground + 8)
    paint(canvas, "occluder", [tape], (214, 196, 158), crease=0, round_=0)


def _bin(canvas: Canvas, x: float, ground: float, height: float, colour: tuple) -> None:
    wide, tall = 0.16 * height, height * canvas.random.uniform(0.36, 0.48)
    body = _rectangle(x - wide, ground - tall, x + wide, ground)
    body[2:, 0] += (-0.15 * wide, 0.15 * wide)
    paint(canvas, "occluder", [body], colour, round_=0.5)
    rim = limb(np.array((x - wide, ground - tall)), np.array((x + wide, ground - tall)), 6.0, 6.0)
    paint(canvas, "occluder", [rim], tuple(0.7 * c for c in colour), crease=0)


def _hedge(canvas: Canvas, x: float, ground: float, height: float, colour: tuple) -> None:
    tall = height * canvas.random.uniform(0.28, 0.42)
    tops = np.linspace(-20, 230, 36)
    ragged = ground - tall + canvas.random.normal(0, 0.018 * height, 36)
    outline = np.concatenate((np.stack((tops, ragged), 1), [(230, 400), (-20, 400)]))
    paint(canvas, "occluder", [outline], (54, 92, 46), round_=0.3)
    for light in (0.72, 1.25, 1.5):
        places = canvas.random.uniform((-4, ground - tall + 4), (210, ground + 4), (80, 2))
        leaves = [ellipse(p, 4.5, 4.0) for p in places]
        shade = tuple(light * c for c in (54, 92, 46))
        paint(canvas, "occluder", leaves, shade, crease=0, round_=0.2)
