"""What was asked of a training: every knob once, typed and documented."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from reid_core.data import names_of
from reid_core.errors import BadInput
from reid_core.knobs import Knob, knob, knobs_of, unknown
from reid_core.models import MODELS

OF_BASE = "× learning_rate"


@dataclass(frozen=True)
class Training:
    """The knobs that every model shares; a model's own are in its Options."""

    epochs: int = knob(120, "Passes over the training images.", "Schedule", least=1, most=1_000_000)
    learning_rate: float = knob(0.008, "Base learning rate.", "Schedule", least=0)
    schedule: Literal["cosine", "multistep"] = knob(
        "cosine",
        "How the learning rate falls after warm-up: along a cosine, or by `decay` at each step of "
        "`steps`.",
        "Schedule",
        choices=("cosine", "multistep"),
    )
    warmup_epochs: int = knob(5, "Epochs of linear warm-up.", "Schedule", least=0)
    warmup_start: float = knob(
        0.01,
        "Learning rate at the start of warm-up, as a share of the base.",
        "Schedule",
        least=0,
        unit=OF_BASE,
    )
    final_learning_rate: float = knob(
        0.002, "Where the cosine ends, as a share of the base.", "Schedule", least=0, unit=OF_BASE
    )
    steps: str = knob("40,70", "Epochs at which a multistep schedule falls.", "Schedule")
    decay: float = knob(
        0.1,
        "What a multistep schedule multiplies the learning rate by.",
        "Schedule",
        least=0,
        most=1,
    )
    optimizer: Literal["sgd", "adam", "adamw"] = knob(
        "sgd", "SGD has momentum 0.9.", "Optimiser", choices=("sgd", "adam", "adamw")
    )
    weight_decay: float = knob(1e-4, "Weight decay, on every parameter.", "Optimiser", least=0)
    bias_learning_rate: float = knob(
        2.0,
        "Learning rate of biases, as a multiple of the base.",
        "Optimiser",
        least=0,
        unit=OF_BASE,
    )
    identities_per_batch: int = knob(16, "P: identities in a batch.", "Batch", least=2)
    images_per_identity: int = knob(4, "K: images of each of them.", "Batch", least=2, most=4096)
    sampler: Literal["images", "identities"] = knob(
        "images",
        "What an epoch shows: nearly all images, or each identity once, with K of its images.",
        "Batch",
        choices=("images", "identities"),
    )
    size: tuple[int, int] = knob((256, 128), "Height x width of the images, in pixels.", "Images")
    normalisation: Literal["half", "imagenet"] = knob(
        "half",
        "Subtracted and divided by: 0.5 and 0.5, or ImageNet's mean and deviation.",
        "Images",
        choices=("half", "imagenet"),
    )
    resize: Literal["bicubic", "bilinear"] = knob(
        "bicubic",
        "How training images are brought to that size; test images bilinearly.",
        "Images",
        choices=("bicubic", "bilinear"),
    )
    input: Literal["fast", "official"] = knob(
        "fast",
        "fast resizes each image once and augments whole batches on the device. official reads each "
        "image from its file every time and augments it by itself, through PIL and torchvision, as "
        "the official repositories do: slower, for comparison. Both draw alike; for `translate` fast "
        "enlarges what it has resized, official the file's image.",
        "Images",
        choices=("fast", "official"),
    )
    flip: float = knob(0.5, "Probability of mirroring an image.", "Images", least=0, most=1)
    pad: int = knob(
        10,
        "Black border in pixels, added before a random crop of `size`.",
        "Images",
        least=0,
        most=512,
    )
    translate: float = knob(
        0.0,
        "Probability of enlarging an image by an eighth before a random crop of `size`.",
        "Images",
        least=0,
        most=1,
    )
    erase: float = knob(
        0.5,
        "Probability of random erasing (Zhong et al. 2020) of a rectangle.",
        "Images",
        least=0,
        most=1,
    )
    erase_area: float = knob(
        1 / 3,
        "The largest share of the image that is erased; the smallest is 0.02.",
        "Images",
        least=0.02,
        most=1,
    )
    erase_fill: Literal["noise", "zero", "mean"] = knob(
        "noise",
        "What an erased rectangle becomes, after normalising: noise, zero (the mean colour), or the "
        "numbers of ImageNet's mean colour (the convolutional baseline's official code).",
        "Images",
        choices=("noise", "zero", "mean"),
    )
    label_smoothing: float = knob(
        0.0, "Of the cross-entropy; 0 is none.", "Loss", least=0, most=0.9
    )
    margin: str = knob("soft", "Of the triplet loss: a number, or soft.", "Loss")
    neck: Literal["before", "after"] = knob(
        "before",
        "Which feature is compared at test: before or after BNNeck.",
        "Evaluation",
        choices=("before", "after"),
    )
    evaluate_every: int = knob(
        10,
        "Epochs between evaluations; the last epoch always is one.",
        "Evaluation",
        least=1,
    )
    holdout: float = knob(
        0.0,
        "Share of the training identities kept out of training and evaluated instead of the test "
        "split: for choosing knobs honestly.",
        "Evaluation",
        least=0,
    )
    seed: int = knob(0, "Of everything drawn at random.", "Machine", least=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = knob(
        "auto", "Where to train.", "Machine", choices=("auto", "cpu", "cuda", "mps")
    )
    precision: Literal["auto", "bf16", "fp32"] = knob(
        "auto",
        "auto is bf16 where the processor has a unit for it, else fp32.",
        "Machine",
        choices=("auto", "bf16", "fp32"),
    )
    accumulate: int = knob(
        1,
        "Parts of a batch that are computed one after the other, for small cards: their gradients are "
        "added up. Triplets are still looked for in the whole batch; batch normalisation and a "
        "model's own losses see one part. Costs one more pass without gradient. Batches of stored "
        "features (NFormer's second stage) stay whole.",
        "Machine",
        least=1,
    )
    checkpointing: bool = knob(
        False,
        "Keep only what goes into each layer, and compute the rest again for its gradient: the same "
        "numbers, less memory, about a third slower.",
        "Machine",
    )
    compile: bool = knob(
        False,
        "Let torch.compile rewrite the model before the first step, which takes minutes and needs a "
        "compiler. The last digits differ.",
        "Machine",
    )
    channels_last: Literal["auto", "on", "off"] = knob(
        "auto",
        "Keep the channels of a position together in memory. auto does so for convolutional trunks on "
        "NVIDIA GPUs and processors, where wide 1x1 convolutions become products of matrices. The last "
        "digits differ.",
        "Machine",
        choices=("auto", "on", "off"),
    )
    fused: Literal["auto", "on", "off"] = knob(
        "auto",
        "An optimiser that moves all weights in one go. auto does so on NVIDIA GPUs and "
        "processors. The last digits differ.",
        "Machine",
        choices=("auto", "on", "off"),
    )
    deterministic: bool = knob(
        False,
        "Only operations that give the same bits each time, so that a resumed run on a GPU equals one "
        "that never stopped, as it always does on a CPU. Slower; an operation without such a form, like "
        "OH-Former's deformable convolution, is refused by its name.",
        "Machine",
    )
    save_minutes: float = knob(
        5.0,
        "Minutes after which the state is kept within an epoch; at an epoch's end it always is.",
        "Machine",
        least=0,
    )
    devices: int = knob(
        1,
        "Processes on each machine: one for each GPU, or some that share the processor's cores. The "
        "identities of a batch are divided among them.",
        "Processes",
        least=1,
    )
    nodes: int = knob(
        1,
        "Machines, each with so many processes. More than one are started by Slurm or torchrun.",
        "Processes",
        least=1,
    )
    mining: Literal["global", "local"] = knob(
        "global",
        "Where several processes look for triplets and contrasts: in the whole batch, or each in its "
        "own part of it.",
        "Processes",
        choices=("global", "local"),
    )
    sync_batchnorm: Literal["none", "neck", "all"] = knob(
        "neck",
        "Which batch normalisation takes its statistics over the images of all processes: that of the "
        "necks, all of it (as one process would; slower), or none.",
        "Processes",
        choices=("none", "neck", "all"),
    )
    cache: float = knob(
        4.0,
        "GiB of decoded images kept in memory, of the training images and of the test images each; "
        "larger sets are kept on disk.",
        "Machine",
        least=0,
    )
    disk: float = knob(
        16.0,
        "GiB that decoded images may take on disk, all data sets together, in the folder decoded/ "
        "beside your data sets. It may be deleted at any time. What does not fit is decoded anew.",
        "Machine",
        least=0,
    )

    @property
    def triplet_margin(self) -> float | None:
        """The margin, or None for the soft one. Raises BadInput."""
        if self.margin == "soft":
            return None
        return Knob("margin", "float", 0.3, "", "", least=0).parse(self.margin)

    @property
    def milestones(self) -> list[int]:
        """The epochs in `steps`. Raises BadInput."""
        number = Knob("steps", "int", 0, "", "", least=1)
        return [number.parse(part) for part in self.steps.split(",") if part.strip()]


def knobs(model: str) -> list[Knob]:
    """All knobs of a model, its own first."""
    return knobs_of(MODELS[model].Options) + knobs_of(Training)


def recipe_values(model: str, name: str) -> dict[str, Any]:
    """Every knob's value under a recipe. Raises BadInput for an unknown model or recipe."""
    if model not in MODELS:
        raise BadInput(unknown("model", str(model), MODELS))
    recipes = MODELS[model].recipes
    if name not in recipes:
        raise BadInput(unknown("recipe", str(name), recipes))
    return {each.name: each.default for each in knobs(model)} | recipes[name]


@dataclass(frozen=True)
class Experiment:
    """A training as it was asked for. data is a folder, or None for the data set's own place.

    encoder is the record of the run whose embeddings a second-stage model refines, or None.
    """

    model: str
    recipe: str
    dataset: str
    data: str | None
    options: Any
    training: Training
    encoder: dict[str, Any] | None = None

    @classmethod
    def create(
        cls,
        *,
        model: str,
        recipe: str,
        dataset: str = "pedestrians",
        data: str | None = None,
        settings: dict[str, Any] | None = None,
        encoder: dict[str, Any] | None = None,
    ) -> "Experiment":
        """A recipe with settings of one's own on top, as text or in their types. Raises BadInput."""
        values = recipe_values(model, recipe)
        names_of(str(dataset))  # raises for one that is not known
        known = {each.name: each for each in knobs(model)}
        for key, given in (settings or {}).items():
            if key not in known:
                raise BadInput(unknown("key", key, known))
            values[key] = known[key].parse(given)
        own = {each.name for each in knobs_of(MODELS[model].Options)}
        training = Training(**{k: v for k, v in values.items() if k not in own})
        options = MODELS[model].Options(**{k: v for k, v in values.items() if k in own})
        training.triplet_margin, training.milestones  # noqa: B018 - a bad value shows here
        if not training.holdout < 1:
            raise BadInput(f"holdout: expected a share below 1, got {training.holdout}")
        return cls(model, recipe, dataset, data, options, training, encoder)

    @property
    def values(self) -> dict[str, Any]:
        """Every knob by name."""
        return asdict(self.options) | asdict(self.training)

    @property
    def changed(self) -> dict[str, Any]:
        """The knobs that differ from the recipe."""
        usual = recipe_values(self.model, self.recipe)
        return {key: value for key, value in self.values.items() if value != usual[key]}

    @property
    def first_epochs(self) -> int:
        """Epochs over images: none where another run is the encoder."""
        return 0 if getattr(self.options, "encoder", "") else self.training.epochs

    @property
    def epochs(self) -> int:
        """All epochs, those over stored features included."""
        return self.first_epochs + getattr(self.options, "passes", 0)

    @property
    def evaluated_on(self) -> str:
        """What its scores are measured on, in words."""
        return "held-out training identities" if self.training.holdout else "the test split"

    @property
    def knows_cameras(self) -> bool:
        """Whether the model is told which camera took an image."""
        return self._knows("knows_cameras")

    @property
    def knows_views(self) -> bool:
        """Whether the model is told from which side a person is seen."""
        return self._knows("knows_views")

    def _knows(self, name: str) -> bool:
        if self.encoder:
            return getattr(Experiment.from_dict(self.encoder), name)
        return getattr(self.options, name, False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        asked = dict(model=self.model, recipe=self.recipe, dataset=self.dataset, data=self.data)
        asked |= {"knobs": self.values}
        return asked | ({"encoder": self.encoder} if self.encoder else {})

    @classmethod
    def from_dict(cls, written: dict[str, Any]) -> "Experiment":
        """Raises KeyError, TypeError or BadInput where that is no experiment."""
        asked = {key: written[key] for key in ("model", "recipe", "dataset", "data")}
        # A knob that is younger than the run is at its default, which is what there was before it; a
        # recipe may say otherwise by now.
        known = knobs(written["model"]) if written["model"] in MODELS else []  # create says so
        settings = {each.name: each.default for each in known} | written["knobs"]
        found = cls.create(**asked, settings=settings, encoder=written.get("encoder") or None)
        if not isinstance(found.data, str | None):
            raise BadInput(f"data: expected a folder, got {found.data!r}")
        if found.encoder:
            refines = MODELS[found.model].refines
            if not refines or MODELS[cls.from_dict(found.encoder).model].refines:
                raise BadInput(f"encoder: {found.model} can't refine what it gives")
        return found
