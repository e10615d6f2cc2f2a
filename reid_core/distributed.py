"""Several processes that train one model: what each of them does, and what they tell one another.

W processes of number r hold b = B / W images of a batch of B. In a single process every function
here gives back what it gets, so who calls it need not know.

Gradients: a process's loss is a mean over its own images or, of what was gathered, over all; either
way the mean of the W losses is the loss of one process with the whole batch. Gathering has its true
gradient (what all processes ask of a number is added), and DDP takes the mean over the processes. So
the gradient is that of one process too.
"""

import os
import re
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from reid_core.errors import BadInput

# Processes wait for one another that long: scoring a large test split is the first one's alone. That
# one is gone is found out much sooner (`train.processes`).
PATIENCE = timedelta(minutes=30)
ASSIGNED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Elsewhere(RuntimeError):
    """Another process of the training can't go on, and has told why."""


@dataclass(frozen=True)
class Place:
    """Which of the processes of a training this one is.

    rank of world; on its machine local_rank of devices. address and port are where the first one is
    met. given: somebody else (torchrun, srun) starts the processes.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    devices: int = 1
    address: str = "127.0.0.1"
    port: int = 0
    given: bool = False

    @property
    def nodes(self) -> int:
        return self.world // self.devices

    def variables(self) -> dict[str, str]:
        """As environment variables, for `given_place`."""
        numbers = self.rank, self.world, self.local_rank
        values = (*map(str, numbers), self.address, str(self.port))
        return dict(zip(ASSIGNED, values, strict=True)) | {"LOCAL_WORLD_SIZE": str(self.devices)}


def given_place() -> Place | None:
    """The place that torchrun, srun or our own first process has given this one in the environment;
    None where nobody has. Raises BadInput."""
    env = os.environ
    try:
        if all(name in env for name in ASSIGNED):
            rank, world, local = (int(env[name]) for name in ASSIGNED[:3])
            devices = int(env.get("LOCAL_WORLD_SIZE") or env.get("SLURM_NTASKS_PER_NODE") or world)
            address, port = env["MASTER_ADDR"], int(env["MASTER_PORT"])
        elif int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in env:
            rank, local = int(env["SLURM_PROCID"]), int(env["SLURM_LOCALID"])
            world = int(env["SLURM_STEP_NUM_TASKS"])
            nodes = int(env.get("SLURM_STEP_NUM_NODES", 1))
            devices = 0 if world % nodes else world // nodes
            address = env.get("MASTER_ADDR") or first_host(env["SLURM_STEP_NODELIST"])
            port = int(env.get("MASTER_PORT") or 15000 + int(env["SLURM_JOB_ID"]) % 10000)
        else:
            return None
    except (ValueError, KeyError) as error:
        raise BadInput(
            f"the environment says that several processes train, but not how ({error}): start them "
            "with torchrun or srun"
        ) from None
    if devices < 1 or world % devices:
        raise BadInput(f"{world} processes: expected as many on each machine; start them so")
    return Place(rank, world, local, devices, address, port, given=True) if world > 1 else None


def first_host(hosts: str) -> str:
    """The first of Slurm's list of hosts: node[03-05,9] is node03."""
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", hosts).split(",")[0]


def place_of(devices: int, nodes: int) -> Place:
    """This process's place: the given one, else the first of so many. Raises BadInput."""
    if given := given_place():
        return given
    if nodes > 1:
        raise BadInput(
            f"nodes: {nodes} machines are reached through Slurm or torchrun: on each of them, "
            f"torchrun --nnodes {nodes} --nproc-per-node {devices} ... -m reid_core train --resume RUN"
        )
    return Place(world=devices, devices=devices)


# Who I am


def world() -> int:
    """W, the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """r, this process's number from 0."""
    return dist.get_rank() if world() > 1 else 0


def part(rows: np.ndarray) -> slice:
    """Which of a batch's rows are this process's.

    A batch that can't be divided is everyone's: the same loss and gradient, and no time gained.
    """
    count, processes = len(rows), world()
    if count % processes:
        return slice(0, count)
    own = count // processes
    return slice(rank() * own, (rank() + 1) * own)


def share(count: int) -> slice:
    """Which of so many things are this process's, about as many as every other's."""
    return slice(*(count * each // world() for each in (rank(), rank() + 1)))


# What processes tell one another


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[part(gradient)]


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _Summed.forward(ctx, gradient)


@torch.compiler.disable
def gathered(x: Tensor) -> Tensor:
    """(b, ...) of each process -> (B, ...) of all, in their order; with its gradient."""
    return _Gathered.apply(x) if world() > 1 else x


@torch.compiler.disable
def summed(x: Tensor) -> Tensor:
    """The sum over the processes, with its gradient."""
    return _Summed.apply(x) if world() > 1 else x


def alone(x: Tensor) -> Tensor:
    """In place of `gathered` where a process looks at its own part only."""
    return x


def mean(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Named numbers, each as its mean over the processes; without gradient."""
    if world() == 1:
        return terms
    values = torch.stack([value.detach().double() for value in terms.values()])
    dist.all_reduce(values)
    return dict(zip(terms, (values / world()).float(), strict=True))


def from_first(x: Tensor) -> Tensor:
    """What the first process has in its place."""
    if world() > 1:
        x = x.contiguous()
        dist.broadcast(x, 0)
    return x


def level(model: nn.Module) -> None:
    """Every process takes the first one's buffers: BatchNorm's statistics, where each has its own."""
    for buffer in model.buffers() if world() > 1 else ():
        dist.broadcast(buffer, 0)


_spoken: list = []  # the group for what is said without a GPU's help


def _aside() -> dist.ProcessGroup:
    """A group over the processors, so that saying something never waits for a GPU."""
    if not _spoken:
        own = dist.group.WORLD
        gloo = dist.get_backend() == "gloo"
        _spoken.append(own if gloo else dist.new_group(backend="gloo", timeout=PATIENCE))
    return _spoken[0]


def any_of(*wishes: bool) -> tuple[bool, ...]:
    """Each wish, if any process has it. All must ask at the same point."""
    if world() == 1:
        return wishes
    votes = torch.tensor(wishes, dtype=torch.uint8)
    dist.all_reduce(votes, dist.ReduceOp.MAX, group=_aside())
    return tuple(votes.bool().tolist())


def to_first(vectors: np.ndarray) -> np.ndarray | None:
    """(n, D) float32 of each process -> (N, D) of all, in the first; None in the others."""
    if world() == 1:
        return vectors
    shapes = [torch.zeros(2, dtype=torch.long) for _ in range(world())]
    dist.all_gather(shapes, torch.tensor(vectors.shape), group=_aside())
    most, width = torch.stack(shapes).amax(dim=0).tolist()
    own = torch.zeros(most, width)
    own[: len(vectors), : vectors.shape[1]] = torch.from_numpy(vectors)
    parts = [torch.empty(most, width) for _ in shapes] if rank() == 0 else None
    dist.gather(own, parts, dst=0, group=_aside())
    if parts is None:
        return None
    return np.concatenate([each[: shape[0]] for each, shape in zip(parts, shapes, strict=True)])


def leave() -> None:
    """The group is no more."""
    _spoken.clear()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
