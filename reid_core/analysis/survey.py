"""A few images' attention measured, to find where a mechanism shows most.

Shapes: B images, L layers of the chain, H heads, P groups, h x w positions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reid_core.analysis.attention import chain, entropy, in_groups, on_person, placed, rollout
from reid_core.analysis.parts import shares
from reid_core.look import Looked
from reid_core.models.base import Tokens


@dataclass(frozen=True)
class Survey:
    """What was measured, image by image; NaN where an image has no mask.

    person (B, L, H): share of the class token's attention to patches that lies on the person; even
    (B,): what even attention gives. entropy (B, L, H) in shares of that of even attention. distance
    (B, L, H) and even_distance: how far patches look, in pixels. rolled (B,): the share on the
    person of the rollout. groups (B, P): that of each group's class token, group_even (B, P) what
    even attention over its patches gives; P is 0 without groups.
    """

    person: np.ndarray
    even: np.ndarray
    entropy: np.ndarray
    distance: np.ndarray
    even_distance: float
    rolled: np.ndarray
    groups: np.ndarray
    group_even: np.ndarray

    @property
    def has_masks(self) -> bool:
        return bool(np.isfinite(self.even).all())

    @property
    def strongest(self) -> tuple[int, int, int]:
        """(image, layer, head), from 0: the largest share on the person beyond even attention, or,
        without masks, the lowest entropy."""
        score = self.person - self.even[:, None, None] if self.has_masks else -self.entropy
        return tuple(int(each) for each in np.unravel_index(score.argmax(), score.shape))

    @property
    def strongest_groups(self) -> int:
        """The image whose groups gain most on the person over even attention."""
        if not self.has_masks:
            return self.strongest[0]
        return int((self.groups - self.group_even).mean(axis=1).argmax())


def survey(
    looks: Iterable[tuple[Looked, Sequence[np.ndarray | None]]], ids: Sequence[int]
) -> Survey | None:
    """Measure passes, each with its images' part masks (H, W) or None; ids are those of the person.

    None where no class token can be followed through the layers.
    """
    found: list[tuple] = []
    for looked, masks in looks:
        if not chain(looked):
            return None
        known = [mask for mask in masks if mask is not None]
        if len(known) == len(masks):
            person, even = on_person(looked, known, ids)
        else:
            first = next(iter(chain(looked).values()))
            person = np.full((len(masks), len(chain(looked)), first.shape[1]), np.nan)
            even = np.full(len(masks), np.nan)
        further = [_one(looked, image, mask, ids) for image, mask in enumerate(masks)]
        far, even_distance = distance(looked)
        columns = (person, even, entropy(looked), far)
        found += list(zip(*columns, *zip(*further, strict=True), strict=True))
    stacked = [np.array(column) for column in zip(*found, strict=True)]
    return Survey(*stacked[:4], even_distance, *stacked[4:])


def _one(looked: Looked, image: int, mask: np.ndarray | None, ids: Sequence[int]) -> tuple:
    """The rollout's share on the person, each group's, and what even attention gives each group."""
    maps = chain(looked)
    tokens = looked.tokens[next(iter(maps))]
    rolled = rollout([each[image] for each in maps.values()])[0]
    groups = np.zeros((0, *tokens.grid))
    for name, seen in looked.of("attention").items():
        if parts := looked.tokens[name].groups:
            mean = seen.unflatten(0, (-1, len(parts)))[image].mean(dim=1)[:, 0]  # (P, p + n)
            groups = in_groups(mean.float().cpu().numpy(), looked.tokens[name])
    filled, member = np.nan_to_num(groups), np.isfinite(groups).astype(float)
    if mask is None:
        return np.nan, *np.full((2, len(groups)), np.nan)
    on = lambda weights: shares(weights, tokens, mask, [ids])[..., 0]  # noqa: E731
    return on(placed(rolled, tokens)[1]), on(filled), on(member)


def distance(looked: Looked) -> tuple[np.ndarray, float]:
    """How far patches look (Dosovitskiy et al. 2021, figure 7): the distance between a patch and the
    patches that it attends to, in pixels between their middles, weighted by attention and averaged
    over patches: (B, L, H), and what even attention gives."""
    maps = chain(looked)
    tokens, size = looked.tokens[next(iter(maps))], tuple(looked.pixels.shape[-2:])
    away = apart(tokens, size)  # (h * w, h * w)
    prefix, found = len(tokens.prefix), []
    for each in maps.values():
        weights = each[:, :, prefix:, prefix:].double().cpu().numpy()
        weights = weights / weights.sum(axis=-1, keepdims=True)
        found.append((weights * away).sum(axis=-1).mean(axis=-1))  # (B, H)
    return np.stack(found, axis=1), float(away.mean())


def apart(tokens: Tokens, size: tuple[int, int]) -> np.ndarray:
    """(h * w, h * w) distances in pixels between the middles of positions' windows."""
    (height, width), window = tokens.grid, tokens.window
    steps = (window.stride,) * 2 if window else (size[0] / height, size[1] / width)
    places = np.stack(np.indices((height, width)), axis=-1).reshape(-1, 2) * steps
    return np.linalg.norm(places[:, None] - places[None], axis=-1)
