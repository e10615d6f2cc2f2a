"""The official repositories' models and training steps, found below a folder and called as their own
loops call them.

None of them runs on a CPU, or under a current torch, as it is: what was taken for granted is handed to
them here, and nothing else is changed. Their own requirements (yacs, einops, pytorch_wavelets) may lie
in a folder `site` beside them.
"""

import collections.abc
import contextlib
import importlib
import io
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

MARKS = {
    "transreid": ("TransReID", "model/make_model.py"),
    "pha": ("PHA", "model/make_model.py"),
    "rga": ("RGA", "reid/models/rga_model.py"),
}
RECIPE = "configs/Market/vit_transreid_stride.yml"
CAMERAS = 6


@dataclass
class Official:
    """forward() in evaluation mode, step() of training; the optimiser that step moves weights with."""

    model: nn.Module
    forward: Callable[[], object]
    step: Callable[[], object]


def find(below: Path, name: str) -> tuple[Path | None, str]:
    """Where a repository lies, or why it can't be used."""
    folder, mark = MARKS[name]
    places = sorted(each for each in below.rglob(mark) if folder.lower() in str(each).lower())
    if not places:
        return None, f"not found: no {folder}/{mark} below {below}"
    return places[0].parents[mark.count("/")], ""


def load(name: str, below: Path, batch, device: str, classes: int, paths: list[str]) -> Official:
    """The official model of a name, ready to be timed on a batch of ours. Raises ImportError."""
    home, problem = find(below, name)
    if problem:
        raise ImportError(problem)
    with imported(home, below / "site", device), contextlib.redirect_stdout(io.StringIO()):
        build = dict(transreid=transreid, pha=pha, rga=rga)[name]
        return build(home, batch, device, classes, paths)


@contextlib.contextmanager
def imported(home: Path, site: Path, device: str) -> Iterator[None]:
    """Their packages all have the same names (model, loss, config): each is forgotten afterwards."""
    before, paths = set(sys.modules), list(sys.path)
    sys.path[:0] = [str(home), str(site)]
    sys.modules["torch._six"] = six = types.ModuleType("torch._six")
    six.container_abcs, six.int_classes, six.string_classes = collections.abc, int, str
    resources = types.ModuleType("pkg_resources")  # newer versions of setuptools have none
    resources.resource_stream = None
    sys.modules.setdefault("pkg_resources", resources)
    tolerate(device)
    try:
        yield
    finally:
        sys.path[:] = paths
        for module in set(sys.modules) - before:
            file = str(getattr(sys.modules[module], "__file__", None) or "")
            if file.startswith(str(home)):
                del sys.modules[module]


def tolerate(device: str) -> None:
    """What they call and torch has no more, or has on a GPU only."""
    if not hasattr(torch.Tensor, "_addmm_"):
        torch.Tensor._addmm_ = torch.Tensor.addmm_
        torch.Tensor.addmm_ = _addmm
    if device == "cpu":
        torch.Tensor.cuda = nn.Module.cuda = lambda self, *given, **named: self


def _addmm(self: Tensor, *given, **named) -> Tensor:
    """With beta and alpha in front, as before torch 1.5."""
    if len(given) == 4:
        beta, alpha, *given = given
        named |= dict(beta=beta, alpha=alpha)
    return self._addmm_(*given, **named)


def configured(home: Path, **more):
    """Their configuration for Market-1501 with stride 16 and no weights to load."""
    from config import cfg

    cfg = cfg.clone()
    cfg.merge_from_file(str(home / RECIPE))
    cfg.MODEL.PRETRAIN_CHOICE, cfg.MODEL.STRIDE_SIZE = "none", [16, 16]
    for name, value in more.items():
        setattr(cfg.MODEL, name, value)
    return cfg


def transreid(home: Path, batch, device: str, classes: int, paths: list[str]) -> Official:
    """Its loop's step: mixed precision (float16) on a GPU, none elsewhere."""
    from loss import make_loss
    from model import make_model

    cfg = configured(home, SIE_CAMERA=True)
    model = make_model(cfg, num_class=classes, camera_num=CAMERAS, view_num=0).to(device)
    criterion, _ = make_loss(cfg, num_classes=classes)
    optimizer = grouped_sgd(cfg, model)
    scaler, gpu = torch.amp.GradScaler(device, enabled=device == "cuda"), device == "cuda"
    sides = dict(cam_label=batch.camera, view_label=batch.view)

    def forward() -> Tensor:
        model.eval()
        with torch.no_grad():
            return model(batch.image, **sides)

    def step() -> float:
        model.train()
        optimizer.zero_grad()
        with torch.amp.autocast(device, torch.float16 if gpu else None, enabled=gpu):
            score, feature = model(batch.image, batch.identity, **sides)
            loss = criterion(score, feature, batch.identity, batch.camera)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.item()  # as their loop does

    return Official(model, forward, step)


def grouped_sgd(cfg, model: nn.Module) -> torch.optim.Optimizer:
    """One group for each parameter, as their make_optimizer has it."""
    groups = [
        dict(params=[value], lr=cfg.SOLVER.BASE_LR * (1 + ("bias" in name)))
        for name, value in model.named_parameters()
        if value.requires_grad
    ]
    return torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)


def pha(home: Path, batch, device: str, classes: int, paths: list[str]) -> Official:
    """Its do_train itself, for one batch: the mechanism stands in the loop. Taken out of its source:
    "cuda" by name, the batch of 32 and the grid of stride 12; mixed precision where there is no GPU."""
    import pytorch_wavelets  # noqa: F401 - do_train looks for it again
    from loss import make_loss
    from model import make_model

    cfg = configured(home)
    cfg.SOLVER.CHECKPOINT_PERIOD = 10**9
    model = make_model(cfg, num_class=classes, camera_num=0, view_num=0).to(device)
    criterion, center = make_loss(cfg, num_classes=classes)
    do_train = rewritten(home / "processor" / "processor.py", device, len(batch.image))
    optimizer = grouped_sgd(cfg, model)
    centers = torch.optim.SGD(center.parameters(), lr=cfg.SOLVER.CENTER_LR)
    loader = Loader([(batch.image, batch.identity, batch.camera, batch.view, paths)])
    loader.batch_size = len(batch.image)
    schedule = types.SimpleNamespace(step=lambda epoch: None, _get_lr=lambda epoch: [0.008])
    cfg.SOLVER.MAX_EPOCHS = 1

    def forward() -> Tensor:
        model.eval()
        with torch.no_grad():
            return model(batch.image, cam_label=None, view_label=None)

    def step() -> None:
        given = cfg, model, center, loader, None, optimizer, centers, schedule, criterion, 0, device
        do_train(*given)

    return Official(model, forward, step)


class Loader(list):
    """Batches, and how many images one has."""

    batch_size = 0


def rewritten(file: Path, device: str, count: int) -> Callable:
    """do_train for this device and batch."""
    source = file.read_text("utf-8")
    gpu = device == "cuda"
    for old, new in {
        '"cuda"': repr(device),
        "'cuda'": repr(device),
        "(32, 128, 64)": f"({count}, 128, 64)",
        "size=(21, 10)": "size=(16, 8)",
        "enabled=True": f"enabled={gpu}",
        "torch.cuda.synchronize()": "torch.cuda.synchronize()" if gpu else "pass",
    }.items():
        source = source.replace(old, new)
    module = types.ModuleType("processor_here")
    exec(compile(source, str(file), "exec"), module.__dict__)  # a file that the user points at
    return module.do_train


def rga(home: Path, batch, device: str, classes: int, paths: list[str]) -> Official:
    """Its trainer's step: float32, Adam, label smoothing and triplet."""
    package = types.ModuleType("reid")  # its __init__ imports what scipy has no more
    package.__path__ = [str(home / "reid")]
    sys.modules["reid"] = package
    losses = importlib.import_module("reid.loss.loss_set")
    network = importlib.import_module("reid.models.rga_model").ResNet50_RGA_Model
    del sys.modules["reid"]
    model = network(
        pretrained=False, num_classes=classes, branch_name="rgasc", height=256, width=128
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=8e-4, weight_decay=5e-4)
    smoothed = losses.CrossEntropyLabelSmoothLoss(classes, use_gpu=device == "cuda")
    triplet = losses.TripletHardLoss(margin=0.3)

    def forward() -> Tensor:
        model.eval()
        with torch.no_grad():
            return model([batch.image], training=False)[0]

    def step() -> float:
        model.train()
        before, _, logits = model([batch.image], training=True)
        loss = smoothed(logits, batch.identity) + triplet(before, batch.identity)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return Official(model, forward, step)
