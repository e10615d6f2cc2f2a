"""People for the known-answer data set: what they wear and how they are drawn.

Everything visible goes through `paint`, which writes colour and part label from one coverage
mask, so that the part masks are exact by construction. Body coordinates are fractions of the
body height: x to the person's left, y up from the ground, z forward.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np

PARTS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "background": (0, (0, 0, 0)),
    "hair": (1, (141, 85, 36)),
    "hat": (2, (255, 214, 0)),
    "face": (3, (255, 183, 137)),
    "upper": (4, (31, 119, 180)),
    "arms": (5, (23, 190, 207)),
    "lower": (6, (44, 160, 44)),
    "legs": (7, (152, 223, 138)),
    "shoes": (8, (214, 39, 40)),
    "bag": (9, (148, 103, 189)),
    "occluder": (10, (127, 127, 127)),
    "passer-by": (11, (199, 199, 199)),
}
"""Part name to (id in the mask, RGB in the palette); 1 to 9 belong to the person in the box."""

COLOURS = {
    "black": (38, 38, 44),
    "white": (232, 231, 226),
    "grey": (132, 134, 138),
    "red": (190, 36, 44),
    "orange": (230, 120, 34),
    "yellow": (236, 202, 58),
    "green": (42, 124, 66),
    "teal": (26, 144, 148),
    "blue": (42, 88, 178),
    "light blue": (128, 180, 226),
    "purple": (116, 60, 148),
    "pink": (230, 140, 172),
    "brown": (118, 76, 46),
    "beige": (208, 186, 148),
    "navy": (30, 42, 92),
}
SKINS = ((244, 208, 180), (226, 178, 142), (196, 140, 102), (148, 98, 68), (98, 64, 46))
HAIR_COLOURS = ((34, 28, 26), (70, 46, 30), (120, 82, 48), (206, 168, 104), (150, 70, 36))
HAIRS = ("short", "long", "ponytail", "bun", "curly", "bald")
HATS = ("none", "cap", "beanie", "brim hat")
PATTERNS = ("horizontal stripes", "vertical stripes", "checks", "dots", "diagonal", "zigzag")
PRINTS = ("logo", "band")
BAGS = ("none", "backpack", "shoulder bag", "handbag")
SHOES = {
    "white sneakers": (228, 228, 226),
    "red sneakers": (188, 48, 50),
    "blue sneakers": (60, 100, 180),
    "black shoes": (34, 32, 34),
    "brown shoes": (104, 66, 40),
    "black boots": (40, 36, 38),
    "brown boots": (122, 80, 48),
}
UPPERS = {  # name: (hem height, sleeve length from 0 to 1, looseness)
    "T-shirt": (0.490, 0.38, 1.00),
    "vest top": (0.495, 0.00, 0.96),
    "shirt": (0.470, 1.00, 1.03),
    "hoodie": (0.475, 1.00, 1.12),
    "jacket": (0.465, 1.00, 1.15),
    "coat": (0.300, 1.00, 1.18),
}
LOWERS = {  # name: (trouser length from 0 to 1, skirt hem height or 0)
    "trousers": (1.00, 0.0),
    "wide trousers": (1.00, 0.0),
    "shorts": (0.42, 0.0),
    "skirt": (0.00, 0.315),
    "long skirt": (0.00, 0.130),
    "dress": (0.00, 0.290),
}
TILE = 192  # pixels around the body; a multiple of every pattern's period
BODY_PIXELS = 230  # tile pixels for one body height


class Look(NamedTuple):
    """What one identity looks like everywhere; colours by name are keys of COLOURS."""

    girth: float
    shoulders: float
    head: float
    skin: tuple[int, int, int]
    hair: str
    hair_colour: tuple[int, int, int]
    hat: str
    hat_colour: str
    upper: str
    upper_colour: str
    upper_accent: str
    upper_texture: str
    lower: str
    lower_colour: str
    lower_accent: str
    lower_texture: str
    tights: bool
    shoes: str
    bag: str
    bag_colour: str


class Pose(NamedTuple):
    """Where and how a person stands: ground point and height in pixels, angles in radians."""

    x: float
    y: float
    height: float
    yaw: float  # 0 faces the camera, pi shows the back
    phase: float  # of the walking cycle
    stride: float
    raised: int  # -1 or 1: that arm is bent up (telephone); 0: both swing

    def place(self, x: float, y: float, z: float) -> np.ndarray:
        """Project a body point to canvas pixels (x, y); nearer points appear a little lower."""
        cosine, sine = math.cos(self.yaw), math.sin(self.yaw)
        across, towards = x * cosine + z * sine, z * cosine - x * sine
        height = self.height
        return np.array((self.x + height * across, self.y - height * (y - 0.14 * towards)))

    def towards(self, x: float, z: float) -> float:
        """Depth of a body point: positive is nearer to the camera than the spine."""
        return z * math.cos(self.yaw) - x * math.sin(self.yaw)


class Canvas(NamedTuple):
    """A picture in the making: float32 RGB (H, W, 3), part ids uint8 (H, W), a generator."""

    image: np.ndarray
    labels: np.ndarray
    random: np.random.Generator


# ---------------------------------------------------------------- looks


def contrasting(random: np.random.Generator, colour: str) -> str:
    """A colour name whose brightness differs clearly, so that a pattern stays legible."""
    brightness = {name: np.dot(rgb, (0.3, 0.59, 0.11)) for name, rgb in COLOURS.items()}
    names = [n for n in COLOURS if abs(brightness[n] - brightness[colour]) > 75]
    return str(random.choice(names))


def random_look(random: np.random.Generator) -> Look:
    """Dress one person at random."""

    def pick(values: tuple, shares: tuple | None = None):
        return values[int(random.choice(len(values), p=shares))]

    colours = tuple(COLOURS)
    upper_colour, lower_colour = pick(colours), pick(colours)
    lower = pick(tuple(LOWERS), (0.42, 0.12, 0.16, 0.12, 0.08, 0.10))
    textures = ("plain", *PATTERNS, *PRINTS)
    upper_texture = pick(textures, (0.26, *(0.59 / 6,) * 6, 0.09, 0.06))
    lower_texture = pick(("plain", "side stripe", *PATTERNS[:4]), (0.64, 0.12, *(0.06,) * 4))
    look = Look(
        girth=random.uniform(0.88, 1.22),
        shoulders=random.uniform(0.90, 1.12),
        head=random.uniform(0.94, 1.10),
        skin=pick(SKINS),
        hair=pick(HAIRS, (0.34, 0.24, 0.14, 0.08, 0.12, 0.08)),
        hair_colour=pick(HAIR_COLOURS, (0.34, 0.26, 0.16, 0.16, 0.08)),
        hat=pick(HATS, (0.70, 0.12, 0.10, 0.08)),
        hat_colour=pick(colours),
        upper=pick(tuple(UPPERS), (0.28, 0.08, 0.18, 0.16, 0.16, 0.14)),
        upper_colour=upper_colour,
        upper_accent=contrasting(random, upper_colour),
        upper_texture=upper_texture,
        lower=lower,
        lower_colour=lower_colour,
        lower_accent=contrasting(random, lower_colour),
        lower_texture=lower_texture,
        tights=bool(random.random() < 0.4),
        shoes=pick(tuple(SHOES)),
        bag=pick(BAGS, (0.40, 0.24, 0.20, 0.16)),
        bag_colour=pick(colours),
    )
    if lower == "dress":
        look = look._replace(
            upper=pick(("T-shirt", "vest top", "shirt")),
            lower_colour=upper_colour,
            lower_accent=look.upper_accent,
            lower_texture=upper_texture if upper_texture in PATTERNS else "plain",
        )
    return look


def lookalikes(random: np.random.Generator, count: int) -> list[Look]:
    """`count` (2 to 4) looks with the same colours that differ in one texture or accessory."""
    base = random_look(random)
    differs = str(random.choice(("upper_texture", "lower_texture", "bag"), p=(0.62, 0.14, 0.24)))
    if base.lower == "dress":
        differs = "upper_texture" if differs != "bag" else "bag"
    values = BAGS if differs == "bag" else PATTERNS[:4] if differs == "lower_texture" else PATTERNS
    chosen = [str(v) for v in random.choice(values, count, replace=False)]
    looks = [base._replace(**{differs: value}) for value in chosen]
    if base.lower == "dress":
        looks = [look._replace(lower_texture=look.upper_texture) for look in looks]
        if differs == "bag" and base.upper_texture not in PATTERNS:
            looks = [look._replace(lower_texture="plain") for look in looks]
    return looks


# ---------------------------------------------------------------- painting


@functools.lru_cache(maxsize=256)
def cloth(texture: str, colour: tuple, accent: tuple) -> np.ndarray:
    """A uint8 (TILE, TILE, 3) tile that repeats without a seam; u runs around the body."""
    u, v = np.meshgrid(np.arange(TILE), np.arange(TILE))
    zero = np.zeros((TILE, TILE))
    around = np.minimum(u % (TILE // 2), TILE // 2 - u % (TILE // 2))  # 0 on chest and back
    mix = {
        "horizontal stripes": lambda: v // 8 % 2,
        "vertical stripes": lambda: u // 6 % 2,
        "checks": lambda: 0.5 * (u // 8 % 2) + 0.5 * (v // 8 % 2),
        "dots": lambda: (u % 16 - 8) ** 2 + ((v + 8 * (u // 16 % 2)) % 16 - 8) ** 2 < 22,
        "diagonal": lambda: (u + v) // 8 % 2,
        "zigzag": lambda: (v + np.abs(u % 24 - 12)) // 8 % 2,
        "logo": lambda: (np.abs(around) + np.abs(v - 32) < 15) & (around + np.abs(v - 32) > 4),
        "band": lambda: (v > 26) & (v < 46),
        "side stripe": lambda: np.abs(u - TILE // 2) > TILE // 2 - 4,
    }.get(texture, lambda: zero)()
    mix = cv2.GaussianBlur(np.float32(mix), (3, 3), 0.6, borderType=cv2.BORDER_REFLECT)
    tile = np.float32(colour) + mix[..., None] * (np.float32(accent) - np.float32(colour))
    return np.uint8(tile + 0.5)


@functools.lru_cache(maxsize=1)
def folds() -> np.ndarray:
    """Brightness factors (512, 512) of soft creases, cut at random places for each garment."""
    random = np.random.default_rng(7)
    soft = cv2.GaussianBlur(
        random.standard_normal((512, 512)).astype(np.float32), (0, 0), 5, None, 9
    )
    slanted = cv2.warpAffine(soft, np.float32([[1, 0.35, 0], [0, 1, 0]]), (512, 512), borderMode=3)
    return np.float32(1 + 0.075 * slanted / slanted.std())


def paint(
    canvas: Canvas,
    part: str,
    polygons: list[np.ndarray],
    fill: tuple | np.ndarray,
    *,
    start: np.ndarray | None = None,
    axis: np.ndarray | None = None,
    scale: float = 1.0,
    turn: float = 0.0,
    round_: float = 0.45,
    crease: float = 1.0,
) -> None:
    """Fill the union of polygons (each (n, 2), pixels) with a colour or cloth and label it.

    A cloth tile starts at `start`, runs along `axis`, is `scale` pixels per tile pixel large and
    moved around the body by `turn` tile pixels. `round_` is the strength of the shading.
    """
    corners = np.concatenate(polygons)
    height, width = canvas.labels.shape
    left, top = np.maximum(np.floor(corners.min(0)).astype(int) - 2, 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 3, (width, height))
    if right <= left or bottom <= top:
        return
    cover = np.zeros((bottom - top, right - left), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(cover, [np.int32((polygon - (left, top)) * 16)], 255, cv2.LINE_AA, 4)
    where = np.s_[top:bottom, left:right]
    shade = _shading(canvas, cover, round_, crease)
    if isinstance(fill, tuple):
        colour = cv2.merge([shade * fill[0], shade * fill[1], shade * fill[2]])
    else:
        colour = _wrap(fill, cover.shape, (left, top), start, axis, scale, turn)
        colour = cv2.multiply(colour, cv2.merge([shade] * 3), dtype=cv2.CV_32F)
    alpha = cv2.multiply(cover, 1 / 255, dtype=cv2.CV_32F)
    region = canvas.image[where]
    region[...] = cv2.blendLinear(colour, np.ascontiguousarray(region), alpha, 1 - alpha)
    canvas.labels[where][cover > 127] = PARTS[part][0]


def _shading(canvas: Canvas, cover: np.ndarray, round_: float, crease: float) -> np.ndarray:
    """Brightness factors: lit from the upper left, darker towards the edges, with creases."""
    size = max(3, int(min(cover.shape) * 0.42) | 1)
    anchor = (size // 3, size // 3)
    light = cv2.blur(cover, (size, size), anchor=anchor, borderType=cv2.BORDER_REPLICATE)
    shade = cv2.multiply(light, round_ / 255, dtype=cv2.CV_32F)
    shade += 1.09 - round_
    if crease and min(cover.shape) > 8:
        y, x = canvas.random.integers(0, 512 - 324, 2)
        shade *= folds()[y : y + cover.shape[0], x : x + cover.shape[1]]
    return shade


def _wrap(tile, shape, corner, start, axis, scale, turn) -> np.ndarray:
    """The piece of cloth that falls on the rectangle of `shape` whose corner is given."""
    axis = axis / (np.hypot(*axis) + 1e-6) / scale
    across = np.array((axis[1], -axis[0]))
    offset = np.array(corner) - start
    matrix = np.array(((*across, across @ offset + turn), (*axis, axis @ offset)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(tile, matrix, shape[::-1], flags=flags, borderMode=cv2.BORDER_WRAP)


_CIRCLE = np.linspace(0, 2 * math.pi, 24, endpoint=False)
_UNIT = np.stack((np.cos(_CIRCLE), np.sin(_CIRCLE)), 1)


def ellipse(centre: np.ndarray, across: float, up: float) -> np.ndarray:
    """Polygon of an upright ellipse, half axes in pixels."""
    return centre + _UNIT * (across, up)


def limb(a: np.ndarray, b: np.ndarray, start: float, end: float) -> np.ndarray:
    """Polygon of a rounded, tapering limb from a to b with the given half widths in pixels."""
    direction = math.atan2(b[1] - a[1], b[0] - a[0])
    arc = np.linspace(math.pi / 2, 1.5 * math.pi, 8) + direction
    cap = np.stack((np.cos(arc), np.sin(arc)), 1)
    return np.concatenate((a + start * cap, b - end * cap))


def smooth(polygon: np.ndarray) -> np.ndarray:
    """Cut the corners of a closed polygon once (Chaikin)."""
    following = np.roll(polygon, -1, 0)
    both = np.stack((0.75 * polygon + 0.25 * following, 0.25 * polygon + 0.75 * following), 1)
    return both.reshape(-1, 2)


def box(pose: Pose, low: tuple, high: tuple) -> np.ndarray:
    """Rounded outline of an upright block given by two opposite corners in body coordinates."""
    xs, ys, zs = zip(low, high, strict=True)
    corners = np.float32([pose.place(x, y, z) for x in xs for y in ys for z in zs])
    return smooth(cv2.convexHull(corners)[:, 0])


# ---------------------------------------------------------------- people


def draw_person(canvas: Canvas, look: Look, pose: Pose) -> None:
    """Draw a person from the far side to the near side."""
    sides = sorted((-1, 1), key=lambda side: pose.towards(0.1 * side, 0))
    arms = {side: _arm_joints(pose, look, side) for side in sides}
    behind = [s for s in sides if pose.towards(0.12 * s, 0) < -0.05]
    bag_first = {
        "backpack": math.cos(pose.yaw) > -0.25,
        "shoulder bag": pose.towards(0.16, 0) < 0,
        "handbag": pose.towards(0.16, 0) < -0.05,
    }.get(look.bag, True)
    for side in behind:
        _draw_arm(canvas, look, pose, arms[side], side)
    if bag_first:
        _draw_bag(canvas, look, pose, arms[1])
    if math.cos(pose.yaw) > -0.2:
        _draw_hair_behind(canvas, look, pose)
    for side in sides:
        _draw_leg(canvas, look, pose, side)
    _draw_neck(canvas, look, pose)
    if LOWERS[look.lower][1]:
        _draw_skirt(canvas, look, pose)
    _draw_torso(canvas, look, pose)
    _draw_straps(canvas, look, pose)
    _draw_head(canvas, look, pose)
    if math.cos(pose.yaw) <= -0.2:
        _draw_hair_behind(canvas, look, pose)
    if not bag_first and look.bag == "backpack":
        _draw_bag(canvas, look, pose, arms[1])
    for side in sides:
        if side not in behind:
            _draw_arm(canvas, look, pose, arms[side], side)
    if not bag_first and look.bag != "backpack":
        _draw_bag(canvas, look, pose, arms[1])


def _fabric(look: Look, which: str, limb_: bool = False) -> np.ndarray:
    """The tile of the upper or lower garment; prints stay on the torso."""
    texture = getattr(look, f"{which}_texture")
    if limb_ and texture in PRINTS:
        texture = "plain"
    colour, accent = getattr(look, f"{which}_colour"), getattr(look, f"{which}_accent")
    return cloth(texture, COLOURS[colour], COLOURS[accent])


def _leg_joints(pose: Pose, look: Look, side: int) -> list[tuple[float, float, float]]:
    """Hip, knee, ankle of one leg while walking; the lower foot touches the ground."""

    def chain(phase: float) -> tuple[float, float, float, float]:
        thigh = pose.stride * math.sin(phase)
        shin = thigh - 0.06 - 1.5 * pose.stride * max(0.0, math.cos(phase))
        knee = (0.225 * math.cos(thigh), 0.225 * math.sin(thigh))
        return (*knee, knee[0] + 0.225 * math.cos(shin), knee[1] + 0.225 * math.sin(shin))

    chains = {s: chain(pose.phase + (math.pi if s > 0 else 0)) for s in (-1, 1)}
    hip = 0.045 + max(c[2] for c in chains.values())
    down, forward, ankle_down, ankle_forward = chains[side]
    x = side * 0.046 * look.girth
    return [(x, hip, 0), (x, hip - down, forward), (x, hip - ankle_down, ankle_forward)]


def _draw_leg(canvas: Canvas, look: Look, pose: Pose, side: int) -> None:
    """Bare or clothed leg with its shoe."""
    joints = _leg_joints(pose, look, side)
    hip, knee, ankle = (pose.place(*joint) for joint in joints)
    size = pose.height * (0.75 + 0.25 * look.girth)
    length, wide = LOWERS[look.lower][0], look.lower == "wide trousers"
    dark = 0.86 if pose.towards(0.1 * side, 0) < -0.03 else 1.0
    skin = (62, 56, 64) if look.tights and length < 0.4 else look.skin
    if length < 1:
        shapes = [limb(hip, knee, 0.05 * size, 0.034 * size)]
        shapes.append(limb(knee, ankle, 0.034 * size, 0.022 * size))
        paint(canvas, "legs", shapes, tuple(dark * c for c in skin), crease=0)
    _draw_shoe(canvas, look, pose, joints[2], size, ankle, knee)
    if length == 0:
        return
    end = ankle if length == 1 else knee * 0.85 + hip * 0.15
    shapes = [limb(hip, knee if length == 1 else end, 0.058 * size, 0.046 * size)]
    if length == 1:
        cuff = 0.05 if wide else 0.031
        shapes.append(limb(knee, ankle, 0.046 * size, cuff * size))
    turn = TILE / 2 * (side < 0) + TILE / 4
    scale, fabric = pose.height / BODY_PIXELS, _fabric(look, "lower", True)
    paint(canvas, "lower", shapes, fabric, start=hip, axis=end - hip, scale=scale, turn=turn)


def _draw_shoe(canvas, look, pose, joint, size, ankle, knee) -> None:
    x, y, z = joint
    heel, toe = pose.place(x, y - 0.022, z - 0.018), pose.place(x * 1.15, y - 0.026, z + 0.075)
    colour = SHOES[look.shoes]
    shapes = [limb(heel, toe, 0.024 * size, 0.020 * size)]
    if "boots" in look.shoes:
        shapes.append(limb(ankle * 0.55 + knee * 0.45, ankle, 0.036 * size, 0.028 * size))
    else:
        shapes.append(limb(ankle, heel, 0.024 * size, 0.024 * size))
    paint(canvas, "shoes", shapes, colour, crease=0, round_=0.5)
    sole = (236, 236, 232) if "sneakers" in look.shoes else (52, 44, 40)
    drop = np.array((0, 0.014 * size))
    paint(
        canvas, "shoes", [limb(heel + drop, toe + drop, 0.009 * size, 0.009 * size)], sole, crease=0
    )


def _arm_joints(pose: Pose, look: Look, side: int) -> list[tuple[float, float, float]]:
    """Shoulder, elbow, wrist; arms swing against the legs."""
    upper = -0.9 * pose.stride * math.sin(pose.phase + (math.pi if side > 0 else 0))
    lower = upper + 0.28
    inward = 0.0
    if pose.raised == side:
        upper, lower, inward = 0.45, 2.5, 0.05
    x = side * 0.100 * look.shoulders
    out = x + side * 0.034 * look.girth
    elbow = (out, 0.80 - 0.165 * math.cos(upper), 0.165 * math.sin(upper))
    wrist = (
        out - side * inward,
        elbow[1] - 0.15 * math.cos(lower),
        elbow[2] + 0.15 * math.sin(lower),
    )
    return [(x, 0.788, 0.0), elbow, wrist]


def _draw_arm(canvas: Canvas, look: Look, pose: Pose, joints: list, side: int) -> None:
    shoulder, elbow, wrist = (pose.place(*joint) for joint in joints)
    _, sleeve, loose = UPPERS[look.upper]
    size = pose.height * (0.7 + 0.3 * look.girth)
    hand = wrist + (wrist - elbow) * 0.16
    shapes = [ellipse(hand, 0.021 * size, 0.024 * size)]
    if sleeve < 1:
        shapes.append(limb(shoulder, elbow, 0.034 * size, 0.026 * size))
        shapes.append(limb(elbow, wrist, 0.026 * size, 0.018 * size))
    paint(canvas, "arms", shapes, look.skin, crease=0)
    if sleeve == 0:
        return
    width = 0.037 * size * loose
    if sleeve < 1:
        end = shoulder + (elbow - shoulder) * 2 * sleeve
        shapes = [limb(shoulder, end, width, width * 0.98)]
    else:
        end = wrist
        shapes = [
            limb(shoulder, elbow, width, width * 0.82),
            limb(elbow, wrist, width * 0.82, width * 0.64),
        ]
    scale, fabric = pose.height / BODY_PIXELS, _fabric(look, "upper", True)
    axis = end - shoulder
    paint(canvas, "arms", shapes, fabric, start=shoulder, axis=axis, scale=scale, turn=5)


def _outline(pose: Pose, levels: list[tuple[float, float, float]]) -> np.ndarray:
    """Outline of a body given by (height, half width, half depth) from top to bottom."""
    cosine, sine = math.cos(pose.yaw), math.sin(pose.yaw)
    y = np.array([pose.y - pose.height * level[0] for level in levels])
    half = np.array([math.hypot(a * cosine, b * sine) for _, a, b in levels]) * pose.height
    left = np.stack((pose.x - half, y), 1)
    right = np.stack((pose.x + half, y), 1)
    return smooth(smooth(np.concatenate((left, right[::-1]))))


def _torso_levels(look: Look) -> list[tuple[float, float, float]]:
    hem, _, loose = UPPERS[look.upper]
    wide, deep = look.shoulders * (0.6 + 0.4 * loose), look.girth * loose
    levels = [
        (0.850, 0.036, 0.036),
        (0.836, 0.068 * wide, 0.046),
        (0.808, 0.112 * wide, 0.062),
        (0.730, 0.108 * wide, 0.082 * deep),
        (0.620, 0.084 * deep, 0.072 * deep),
        (0.530, 0.094 * deep, 0.082 * deep),
    ]
    flare = 1.28 if hem < 0.4 else 1.0
    return [*levels, (hem, 0.094 * deep * flare, 0.084 * deep * flare)]


def _draw_torso(canvas: Canvas, look: Look, pose: Pose) -> None:
    levels = _torso_levels(look)
    scale = pose.height / BODY_PIXELS
    turn = -pose.yaw / (2 * math.pi) * TILE
    start = np.array((pose.x, pose.y - 0.85 * pose.height))
    down = np.array((0.0, 1.0))
    outline = [_outline(pose, levels)]
    fabric = _fabric(look, "upper")
    paint(canvas, "upper", outline, fabric, start=start, axis=down, scale=scale, turn=turn)
    if math.cos(pose.yaw) > 0.15:
        _draw_front(canvas, look, pose, levels[-1][0])
    if look.upper == "hoodie":
        z = -0.05
        hood = [ellipse(pose.place(0, 0.845, z), 0.066 * pose.height, 0.030 * pose.height)]
        colour = tuple(0.82 * c for c in COLOURS[look.upper_colour])
        paint(canvas, "upper", hood, colour, round_=0.55)


def _draw_front(canvas: Canvas, look: Look, pose: Pose, hem: float) -> None:
    """What only the chest shows: neckline, collar, zip, buttons, lapels."""
    size, place, colour = pose.height, pose.place, COLOURS[look.upper_colour]
    dark = tuple(0.55 * c for c in colour)
    if look.upper in ("T-shirt", "vest top", "hoodie"):
        drop = 0.03 if look.upper == "vest top" else 0.016
        paint(canvas, "face", [ellipse(place(0, 0.85, 0.05), 0.036 * size, drop * size)], look.skin)
        return
    if look.upper == "shirt":
        wings = [(place(0, 0.80, 0.08), place(s * 0.05, 0.853, 0.03)) for s in (-1, 1)]
        shapes = [limb(a, b, 0.004 * size, 0.014 * size) for a, b in wings]
        buttons = [ellipse(place(0, y, 0.085), 1.3, 1.3) for y in (0.75, 0.69, 0.63, 0.57)]
        paint(canvas, "upper", shapes, tuple(min(255, 1.15 * c + 14) for c in colour), crease=0)
        paint(canvas, "upper", buttons, dark, crease=0)
        return
    inner = COLOURS[look.upper_accent]
    depth = 0.70 if look.upper == "coat" else 0.79
    opening = np.stack([place(s * 0.042, 0.85, 0.05) for s in (-1, 1)] + [place(0, depth, 0.085)])
    paint(canvas, "upper", [opening], inner, crease=0)
    zip_ = limb(place(0, depth, 0.085), place(0, hem + 0.01, 0.085), 1.0, 1.0)
    paint(canvas, "upper", [zip_], dark, crease=0, round_=0)


def _draw_skirt(canvas: Canvas, look: Look, pose: Pose) -> None:
    hem, girth, swing = LOWERS[look.lower][1], look.girth, pose.stride
    flare = 0.145 if look.lower != "long skirt" else 0.13
    levels = [
        (0.620, 0.082 * girth, 0.070 * girth),
        (0.530, 0.100 * girth, 0.088 * girth),
        (hem, flare * girth, (0.10 + 0.10 * swing) * girth),
        (hem - 0.008, 0.7 * flare * girth, 0.07 * girth),
    ]
    start, down = np.array((pose.x, pose.y - 0.62 * pose.height)), np.array((0.0, 1.0))
    scale, turn = pose.height / BODY_PIXELS, -pose.yaw / (2 * math.pi) * TILE
    fabric = _fabric(look, "lower", True)
    shape = [_outline(pose, levels)]
    paint(canvas, "lower", shape, fabric, start=start, axis=down, scale=scale, turn=turn)


def _draw_neck(canvas: Canvas, look: Look, pose: Pose) -> None:
    a, b = pose.place(0, 0.89, 0.0), pose.place(0, 0.83, -0.005)
    width = 0.030 * pose.height
    shade = tuple(0.86 * c for c in look.skin)
    paint(canvas, "face", [limb(a, b, width, width * 1.1)], shade, crease=0)


def _draw_hair_behind(canvas: Canvas, look: Look, pose: Pose) -> None:
    """Hair that hangs: long hair, a ponytail, a bun."""
    size = pose.height * look.head
    if look.hair == "long":
        top, low = pose.place(0, 0.935, -0.022), pose.place(0, 0.775, -0.05)
        shape = limb(top, low, 0.060 * size, 0.050 * size)
    elif look.hair == "ponytail":
        top, low = pose.place(0, 0.965, -0.058), pose.place(0, 0.81, -0.085)
        shape = smooth(limb(top, low, 0.024 * size, 0.012 * size))
    elif look.hair == "bun" and look.hat == "none":
        shape = ellipse(pose.place(0, 0.985, -0.045), 0.030 * size, 0.028 * size)
    else:
        return
    paint(canvas, "hair", [shape], look.hair_colour, round_=0.55)


def _draw_head(canvas: Canvas, look: Look, pose: Pose) -> None:
    size = pose.height * look.head
    cosine, sine = math.cos(pose.yaw), math.sin(pose.yaw)
    centre = pose.place(0, 0.93, 0.0)
    across = 0.053 * size * (1 + 0.10 * abs(sine))
    if look.hair == "bald":
        paint(canvas, "face", [ellipse(centre, across, 0.068 * size)], look.skin, crease=0)
    else:
        bulk = 1.32 if look.hair == "curly" else 1.06
        lift = np.array((-0.008 * size * sine, -0.006 * size * bulk))
        skull = ellipse(centre + lift, across * bulk, 0.066 * size * bulk)
        if look.hair == "curly":
            skull = skull + (0.007 * size) * np.cos(_CIRCLE * 6)[:, None] * _UNIT
        paint(canvas, "hair", [skull], look.hair_colour, round_=0.6)
    if cosine > -0.45:
        _draw_face(canvas, look, pose, centre, across)
    if look.hat != "none":
        _draw_hat(canvas, look, pose, centre, across)


def _draw_face(canvas: Canvas, look: Look, pose: Pose, centre: np.ndarray, across: float) -> None:
    size, yaw = pose.height * look.head, pose.yaw
    cosine, sine = math.cos(yaw), math.sin(yaw)
    if look.hair != "bald":
        middle = centre - (-sine * 0.022 * size, -0.015 * size)
        width = across * (0.70 + 0.20 * max(0.0, cosine))
        paint(
            canvas, "face", [ellipse(middle, width, 0.056 * size)], look.skin, crease=0, round_=0.3
        )

    def spots(azimuth: float, y: float, wide: float, high: float) -> list[np.ndarray]:
        angles = [yaw + s * azimuth for s in (-1, 1) if math.cos(yaw + s * azimuth) > 0.25]
        middle = centre[1] + y * size
        return [
            ellipse(np.array((centre[0] + 0.050 * size * math.sin(a), middle)), wide, high)
            for a in angles
        ]

    features = [
        (spots(0.42, 0.004, 0.0085 * size, 0.0065 * size), (246, 244, 240)),
        (spots(0.42, 0.004, 0.0052 * size, 0.0062 * size), (36, 28, 26)),
        (
            spots(0.42, -0.014, 0.0095 * size, 0.0024 * size),
            tuple(0.8 * c for c in look.hair_colour),
        ),
        (spots(0.10, 0.022, 0.005 * size, 0.005 * size), tuple(0.80 * c for c in look.skin)),
        (spots(0.13, 0.038, 0.010 * size, 0.0036 * size), (186, 92, 86)),
    ]
    for shapes, colour in features:
        if shapes:
            paint(canvas, "face", shapes, colour, crease=0, round_=0)


def _draw_hat(canvas: Canvas, look: Look, pose: Pose, centre: np.ndarray, across: float) -> None:
    size, colour = pose.height * look.head, COLOURS[look.hat_colour]
    edge = centre - (0, 0.022 * size)
    high = 0.066 if look.hat == "beanie" else 0.056
    arc = np.linspace(math.pi, 2 * math.pi, 16)
    dome = edge + np.stack((np.cos(arc) * across * 1.12, np.sin(arc) * high * size), 1)
    dark = tuple(0.74 * c for c in colour)
    paint(canvas, "hat", [dome], colour, round_=0.5)
    if look.hat == "beanie":
        band = limb(edge - (across, 0), edge - (-across, 0), 0.014 * size, 0.014 * size)
    elif look.hat == "brim hat":
        band = ellipse(edge, across * 1.9, 0.016 * size)
    elif math.cos(pose.yaw) > -0.5:
        forward = np.array((math.sin(pose.yaw), 0.14 * math.cos(pose.yaw))) * size
        tip, base = edge + 0.085 * forward, edge + 0.02 * forward
        width = across * (0.25 + 0.6 * max(0, math.cos(pose.yaw)))
        band = cv2.convexHull(
            np.float32(np.concatenate((ellipse(base, width, 3), ellipse(tip, width * 0.8, 3))))
        )[:, 0]
    else:
        return
    paint(canvas, "hat", [band], dark, crease=0)


def _draw_bag(canvas: Canvas, look: Look, pose: Pose, arm: list) -> None:
    colour = COLOURS[look.bag_colour]
    dark = tuple(0.68 * c for c in colour)
    deep = 0.075 * look.girth * UPPERS[look.upper][2]
    if look.bag == "backpack":
        paint(canvas, "bag", [box(pose, (-0.09, 0.56, -deep - 0.11), (0.09, 0.81, -deep))], colour)
        pocket = box(pose, (-0.065, 0.575, -deep - 0.13), (0.065, 0.66, -deep - 0.09))
        paint(canvas, "bag", [pocket], dark)
    elif look.bag == "shoulder bag":
        x = 0.125 * look.girth
        paint(canvas, "bag", [box(pose, (x, 0.405, -0.085), (x + 0.055, 0.545, 0.085))], colour)
        flap = box(pose, (x, 0.49, -0.088), (x + 0.058, 0.547, 0.088))
        paint(canvas, "bag", [flap], dark)
    elif look.bag == "handbag":
        x, y, z = arm[2]
        y = min(y, 0.56)
        hand = pose.place(x, y - 0.02, z)
        ends = [pose.place(x, y - 0.085, z + s * 0.05) for s in (-1, 1)]
        paint(canvas, "bag", [limb(hand, end, 1.6, 1.6) for end in ends], dark, crease=0)
        block = box(pose, (x - 0.03, y - 0.20, z - 0.085), (x + 0.03, y - 0.08, z + 0.085))
        paint(canvas, "bag", [block], colour)


def _draw_straps(canvas: Canvas, look: Look, pose: Pose) -> None:
    """Backpack straps on the chest, or the strap of a shoulder bag across chest or back."""
    size, facing = pose.height, math.cos(pose.yaw)
    deep = 0.085 * look.girth * UPPERS[look.upper][2]
    dark = tuple(0.68 * c for c in COLOURS[look.bag_colour])
    if look.bag == "backpack" and facing > 0.1:
        lines = [((s * 0.072, 0.835, 0.03), (s * 0.080, 0.63, deep)) for s in (-1, 1)]
    elif look.bag == "shoulder bag":
        z = math.copysign(0.6 * deep, facing)
        lines = [((-0.078, 0.832, 0.4 * z), (0.125 * look.girth, 0.53, 0.5 * z))]
    else:
        return
    width = 0.012 * size
    shapes = [limb(pose.place(*a), pose.place(*b), width, width) for a, b in lines]
    paint(canvas, "bag", shapes, dark, crease=0)
