"""synth: a data set of synthetic pedestrians."""

import argparse
import signal
import sys

from reid_core.commands.asked import Bar, given_path
from reid_core.errors import BadInput


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser("synth", help="render a data set of synthetic pedestrians")
    command.add_argument("dir", type=given_path, metavar="DIR")
    command.add_argument("--identities", type=int, default=None, metavar="N")
    command.add_argument("--cameras", type=int, default=6, metavar="C")
    command.add_argument("--seed", type=int, default=0, metavar="S")
    command.add_argument("--size", default="256x128", metavar="HxW")
    command.add_argument(
        "--progress", choices=("bar", "lines"), default="bar", help=argparse.SUPPRESS
    )
    command.set_defaults(act=act)


def act(asked: argparse.Namespace) -> None:
    """Render it; its folder on stdout."""
    from reid_core.data import PEDESTRIAN_IDENTITIES, pedestrians
    from reid_core.knobs import Knob

    # As an error, so that the workers end and nothing half-made stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = Knob("--size", "size", None, "", "").parse(asked.size)
    with Bar(asked.progress) as progress:
        try:
            pedestrians.render(
                asked.dir,
                identities=PEDESTRIAN_IDENTITIES if asked.identities is None else asked.identities,
                cameras=asked.cameras,
                seed=asked.seed,
                size=size,
                progress=progress,
            )
        except (ValueError, FileExistsError, NotADirectoryError) as error:
            raise BadInput(str(error)) from None
    print(asked.dir)
