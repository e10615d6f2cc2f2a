"""What every model has in common: what goes in, what comes out, what it says of itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from reid_core.distributed import alone


@dataclass
class Batch:
    """What the loop hands to a model. B images.

    image     (B, 3, H, W) float, normalised
    identity  (B,) class numbers from 0, or None at test
    camera    (B,) rows of the camera embedding from 0; -1 is unknown
    view      (B,) rows of the view embedding from 0; -1 is unknown
    progress  the epoch from 1, for losses that follow a schedule
    clean     (B, 3, H, W) float 0..1: the same resize, flip and crop before normalising and erasing;
              at test for the probes alone
    plain     (B, 3, H, W) float 0..1: resized, nothing else
    finish    normalises and erases images in 0..1 as `image` was, for a model that makes another view
              of them; `finish(images, erase=0)` only normalises
    vectors   (S, N, D) S sequences of N stored features in place of images; identity is (S * N,)
    gather    brings together what the processes of a training hold of a batch, (b, ...) -> (B, ...),
              for a loss over all of it; gives back what it gets where there is one process
    """

    image: Tensor | None
    camera: Tensor
    view: Tensor
    identity: Tensor | None = None
    progress: int = 0
    clean: Tensor | None = None
    plain: Tensor | None = None
    finish: Callable[..., Tensor] | None = None
    vectors: Tensor | None = None
    gather: Callable[[Tensor], Tensor] = alone


@dataclass
class Branch:
    """A supervised head: feature (B, D) before BNNeck, logits (B, classes), its share of the loss."""

    feature: Tensor
    logits: Tensor
    weight: float


@dataclass
class Output:
    """What a model returns, in training and at test alike.

    embedding  (B, D) the test feature, before L2 normalisation
    branches   the supervised heads; as a rule their weights sum to 1
    losses     what only this mechanism knows, by name
    """

    embedding: Tensor
    branches: list[Branch]
    losses: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What a model must know of its training data before it can be built.

    classes is the number of training identities; cameras and views are the ids found, sorted: row i
    of an embedding belongs to the i-th of them.
    """

    classes: int
    cameras: tuple[int, ...] = ()
    views: tuple[int, ...] = ()


class Window(NamedTuple):
    """The pixels of a position: row r covers size of them from start + r * stride, columns alike."""

    size: int
    stride: int
    start: int = 0


@dataclass(frozen=True)
class Tokens:
    """What the rows and columns of a probe's tensor stand for.

    grid (h, w) of positions, row by row; prefix names the tokens before them. window says which
    pixels a position is cut from; None where it has no window of its own, as in a CNN: there the
    grid tiles the image, though a position sees more. groups are lists of n positions where a layer
    sees parts of the grid, each with the prefix before it: its tensor is (B * G, ...), the groups of
    an image in order.
    """

    grid: tuple[int, int]
    prefix: tuple[str, ...] = ()
    window: Window | None = None
    groups: tuple[tuple[int, ...], ...] = ()


class ReIDModel(nn.Module):
    """A re-identification model: `forward(batch) -> Output`.

    grid is the (rows, columns) of patch or feature positions, prefix_tokens how many tokens stand
    before them, window which pixels a position is cut from. neck says which feature is compared at test: "before" or "after" BNNeck.
    """

    title: ClassVar[str]
    paper: ClassVar[str]
    idea: ClassVar[str]
    Options: ClassVar[type]  # a dataclass of knobs
    recipes: ClassVar[dict[str, dict[str, Any]]]
    paper_recipe: ClassVar[str] = "The authors' recipe, as far as our sources tell it."
    other_sets: ClassVar[str] = ""  # what the recipe "paper" changes for other data sets, in words

    grid: tuple[int, int]
    prefix_tokens: int = 0
    window: Window | None = None
    neck: str = "before"
    refines: ClassVar[bool] = False  # whether `refine` does anything

    def forward(self, batch: Batch) -> Output:
        raise NotImplementedError

    def tokens(self, probe: str) -> Tokens:
        """What stands where in the tensor of a probe."""
        return Tokens(self.grid, ("class",) * self.prefix_tokens, self.window)

    def pieces(self) -> dict[str, Tensor | None]:
        """What the embedding joins, in order and equally wide: by name the share (h, w) that each
        position has in it, or None where it is made of all."""
        return {"global": None}

    def refine(self, vectors: Tensor) -> Tensor:
        """(N, D) embeddings of a whole set -> (N, D'), for a model whose images look at one another."""
        return vectors
