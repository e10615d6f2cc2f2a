"""A run as ONNX, for programs without PyTorch: the inference graph, held against the model itself.

B images of H x W pixels, D dimensions; N images of a set, l landmarks.
"""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core.data.images import NORMALISATIONS
from reid_core.errors import BadInput, check_writable
from reid_core.models import Batch, ReIDModel
from reid_core.runs import Run

OPSET = 20  # 19 brought the deformable convolution
TOLERANCE = 1e-4
LIMIT = 2 * 2**30  # bytes of one ONNX file
OF_SETS = ("model", "paper", "run", "imported", "neck", "protocol", "licence")


class Unequal(Exception):
    """onnxruntime gives other embeddings than the model: nothing is written."""


@dataclass(frozen=True)
class Exported:
    """A written graph, and the largest relative difference of an embedding from the model's."""

    path: Path
    difference: float


def export(run: Run, out: Path, neck: str | None = None) -> list[Exported]:
    """Write a run's inference graph; for a model that refines, its encoder's and a second one beside
    it, over features. Raises BadInput, or Unequal.

    The first takes `image` (B, 3, H, W), normalised, and where the model is told of them `camera` and
    `view` (B,), rows of the ids in the file's metadata, -1 for unknown; it gives `embedding` (B, D).
    The second takes the encoder's embeddings as `features` (N, D) and gives `refined` (N, D);
    `landmarks` (layers, l) are rows of images, the first l unless given, while the run itself draws
    them.
    """
    if out.suffix.lower() != ".onnx":
        raise BadInput(f"--out {out}: expected a file that ends in .onnx")
    check_writable(out)
    lacking = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if lacking:
        raise BadInput(f"exporting needs {', '.join(lacking)}: pip install {' '.join(lacking)}")
    model = run.model()
    if sum(each.numel() for each in model.state_dict().values()) * 4 > LIMIT:
        raise BadInput(
            f"run {run.name!r} has more than 2 GiB of weights, too much for one ONNX file"
        )
    if neck:
        model.neck = neck
    about = metadata(run, model)
    # An encoder that is refined gives its feature after BNNeck, whichever the refining part gives.
    alone = about | ({"neck": "after"} if model.refines else {})
    graphs = [(out, ImageGraph(model, run), alone)]
    if run.refined:
        second = out.with_name(f"{out.stem}.refine{out.suffix or '.onnx'}")
        graph = SetGraph(model)
        graphs.append((second, graph, {k: about[k] for k in OF_SETS} | of_set(graph)))
    beside = [path.with_name(f".{path.name}.{os.getpid()}") for path, _, _ in graphs]
    try:  # all of them are compared before the first is where it was asked for
        with _quiet():
            differences = [
                write(graph, path, about)
                for path, (_, graph, about) in zip(beside, graphs, strict=True)
            ]
        for path, (target, _, _) in zip(beside, graphs, strict=True):
            os.replace(path, target)
    except OSError as error:
        error.filename = str(out)  # not the one beside it
        raise
    finally:
        for path in beside:
            path.unlink(missing_ok=True)
    return [
        Exported(target, difference)
        for (target, _, _), difference in zip(graphs, differences, strict=True)
    ]


class ImageGraph(nn.Module):
    """Images in, embeddings out."""

    output, counts = "embedding", (1, 3)
    defaults: ClassVar[dict[str, Tensor]] = {}

    def __init__(self, model: ReIDModel, run: Run):
        super().__init__()
        self.model, self.size = model, run.experiment.training.size
        knows = {"camera": run.experiment.knows_cameras, "view": run.experiment.knows_views}
        self.axes = {"image": {0: "batch"}} | {k: {0: "batch"} for k, told in knows.items() if told}

    def forward(self, image: Tensor, camera: Tensor | None = None, view: Tensor | None = None):
        unknown = torch.full_like(image[:, 0, 0, 0], -1, dtype=torch.long)  # (B,)
        camera, view = (unknown if each is None else each for each in (camera, view))
        return self.model(Batch(image, camera, view)).embedding

    def example(self, count: int) -> dict[str, Tensor]:
        """Inputs for so many images, with unknown cameras and views among them."""
        draw = torch.Generator().manual_seed(count)
        inputs = {"image": torch.randn(count, 3, *self.size, generator=draw)}
        known = {"camera": len(self.model.facts.cameras), "view": len(self.model.facts.views)}
        rows = {name: torch.arange(count) % (rows + 1) - 1 for name, rows in known.items()}
        return inputs | {name: rows[name] for name in self.axes if name in rows}

    def expected(self, inputs: dict[str, Tensor]) -> Tensor:
        return self(**inputs)


class SetGraph(nn.Module):
    """NFormer's neighbour transformer over the features of a set. It forms the (N, N) similarities,
    which the model itself forms in blocks."""

    output, counts = "refined", (3, 40)
    axes = {"features": {0: "images"}, "landmarks": {1: "landmarks"}}

    def __init__(self, model: ReIDModel):
        super().__init__()
        self.model, self.transformer, options = model, model.transformer, model.options
        self.width = getattr(self.transformer.project, "in_features", options.width)
        self.seed = max(options.landmark_seed, 0)
        self.defaults = {"landmarks": torch.arange(options.landmarks).repeat(options.layers, 1)}

    def forward(self, features: Tensor, landmarks: Tensor) -> Tensor:
        features = F.normalize(features, dim=1)  # (N, D')
        neighbours, mutual = self.neighbours(features)
        landmarks = landmarks[:, (landmarks < features.shape[0]).all(dim=0)]  # (layers, l)
        x = self.transformer.project(features[None])  # (1, N, D)
        for number, layer in enumerate(self.transformer.layers):
            x = layer(x, landmarks[number], neighbours[None], mutual[None])
        return self.transformer.neck.norm(x[0]) if self.model.neck == "after" else x[0]

    def neighbours(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`mutual_neighbours` without a size that depends on the set's: (N, k) rows, and (N, k)."""
        k, count = self.model.options.neighbours, features.shape[0]
        similarity = F.pad(features @ features.T, (0, k), value=-2.0)  # (N, N + k): never too few
        found = similarity.topk(k, dim=1).indices  # (N, k)
        neighbours = found.clamp(max=count - 1)
        own = torch.arange(count)[:, None, None]
        return neighbours, (found < count) & (found[neighbours] == own).any(dim=2)

    def example(self, count: int) -> dict[str, Tensor]:
        """Inputs for so many images, with the landmarks that the run itself draws for them."""
        draw = torch.Generator().manual_seed(count)
        features = torch.randn(count, self.width, generator=draw)
        layers, landmarks = self.defaults["landmarks"].shape
        draw = torch.Generator().manual_seed(self.seed)
        drawn = [torch.randperm(count, generator=draw)[:landmarks] for _ in range(layers)]
        return {"features": features, "landmarks": torch.stack(drawn)}

    def expected(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.model.refine(inputs["features"], seed=self.seed)


def translations() -> dict[Callable, Callable]:
    """What the exporter lacks, or does less exactly."""
    from onnxscript import opset20

    def deform(
        x, weight, offset, mask, bias, sy, sx, py, px, dy, dx, groups, offset_groups, masked
    ):
        return opset20.DeformConv(
            x,
            weight,
            offset,
            bias,
            mask if masked else None,
            strides=[sy, sx],
            pads=[py, px, py, px],
            dilations=[dy, dx],
            group=groups,
            offset_group=offset_groups,
        )

    def sigmoid(x):  # onnxruntime's own is only absolutely exact: nothing is left of a shut gate
        one = opset20.CastLike(opset20.Constant(value_float=1.0), x)
        return opset20.Reciprocal(opset20.Add(one, opset20.Exp(opset20.Neg(x))))

    return {
        torch.ops.torchvision.deform_conv2d.default: deform,
        torch.ops.aten.sigmoid.default: sigmoid,
    }


def write(graph: ImageGraph | SetGraph, path: Path, about: dict[str, str]) -> float:
    """Trace a graph into an ONNX file, run it in onnxruntime, return how far it is off. Raises
    Unequal."""
    import onnx_ir

    program = torch.onnx.export(
        graph.eval(),
        kwargs=graph.example(graph.counts[-1]),
        dynamo=True,
        input_names=list(graph.axes),
        output_names=[graph.output],
        dynamic_shapes=graph.axes,
        opset_version=OPSET,
        custom_translation_table=translations(),
        verbose=False,
    )
    program.model.metadata_props.update(about)
    for value in program.model.graph.inputs:
        if value.name in graph.defaults:  # ONNX: an input that is an initializer too is optional
            value.const_value = onnx_ir.tensor(graph.defaults[value.name].numpy(), name=value.name)
            program.model.graph.register_initializer(value)
    program.save(str(path), external_data=False)
    difference = compare(graph, path)
    if not difference <= TOLERANCE:
        raise Unequal(
            f"onnxruntime's {graph.output} differs from the model's by {difference:.1e} of its length, "
            f"more than {TOLERANCE:.0e}; nothing was written"
        )
    return difference


@torch.no_grad()
def compare(graph: ImageGraph | SetGraph, path: Path) -> float:
    """The largest relative difference of a row, over inputs of more than one size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in graph.counts:
        inputs = graph.example(count)
        (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        expected = graph.expected(inputs).numpy()
        away = np.linalg.norm(found - expected, axis=1)
        worst = max(worst, float((away / np.linalg.norm(expected, axis=1)).max()))
    return worst


def metadata(run: Run, model: ReIDModel) -> dict[str, str]:
    """What somebody with nothing but the file must know."""
    experiment = run.experiment
    mean, deviation = NORMALISATIONS[experiment.training.normalisation]
    height, width = experiment.training.size
    about = dict(
        model=model.title,
        paper=model.paper,
        run=run.name,
        imported=run.imported,
        size=f"{height}x{width}",
        image="RGB, resized bilinearly, from 0..1 minus mean, divided by deviation",
        mean=mean,
        deviation=deviation,
        cameras=model.facts.cameras if experiment.knows_cameras else (),
        views=model.facts.views if experiment.knows_views else (),
        neck=model.neck,
        protocol="compare by cosine",
        licence="The exporting program is under Apache-2.0. Weights and training images have "
        "licences of their own.",
    )
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in about.items()}


def of_set(graph: SetGraph) -> dict[str, str]:
    """The same of the second graph's inputs."""
    seed, (layers, rows) = graph.seed, graph.defaults["landmarks"].shape
    return dict(
        features="(N, D) the encoder's embeddings of the whole set, queries and gallery",
        landmarks=f"({layers}, {rows}) rows of images. The run's own numbers need those that it draws: with "
        f"draw = torch.Generator().manual_seed({seed}), torch.randperm(N, generator=draw)[:{rows}] for one "
        "layer after the other. Without this input: the first rows, and so other numbers.",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings; what counts is the comparison."""
    log = logging.getLogger("onnxscript")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
