"""export: a run's inference graph as ONNX."""

import argparse
import sys

from reid_core.commands.asked import given_path


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser(
        "export",
        help="write a run's inference graph as ONNX",
        description="Writes a run's inference graph as ONNX and compares it with the model in "
        "onnxruntime, at two batch sizes. Inputs: image (B, 3, H, W), normalised; where the model is "
        "told of them, camera and view (B,), rows of the ids in the file's metadata, -1 for unknown. "
        "A model that refines gives two files: its encoder's, and F.refine.onnx over the features of "
        "a set; for the run's own numbers it wants the landmarks that the run draws, too: its metadata "
        "says how, and without them it takes the first images.",
    )
    command.add_argument("run", metavar="RUN")
    command.add_argument("--out", required=True, type=given_path, metavar="F.onnx")
    command.add_argument(
        "--neck", choices=("before", "after"), default=None, help="BNNeck; the run's own knob"
    )
    command.set_defaults(act=act)


def act(asked: argparse.Namespace) -> int:
    """Write the files; their paths on stdout. 1 where one differs from the model."""
    from reid_core.export import Unequal, export
    from reid_core.runs import open_run

    run = open_run(asked.run)
    try:
        written = export(run, asked.out, asked.neck)
    except Unequal as error:
        print(f"reid_core: {error}", file=sys.stderr)
        return 1
    for each in written:
        print(each.path)
        print(
            f"reid_core: {each.path.name}: as the model's to {each.difference:.1e} in onnxruntime",
            file=sys.stderr,
        )
    return 0
