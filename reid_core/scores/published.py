"""Numbers that others report, each with its source: the data of the reproduction ledger.

Only numbers whose source was read: a paper's number is entered where a page or thread that quotes it
was seen, and that is its source. Scores are shares of 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from reid_core.evaluate import JOINT, PROTOCOL
from reid_core.scores.protocols import CUHK03, LEGACY

PAPER, OFFICIAL, RERUN, TOOLKIT = (
    "paper",
    "official repository",
    "re-run by a user",
    "other toolkit",
)
KINDS = (PAPER, OFFICIAL, RERUN, TOOLKIT)
METRICS = ("mAP", "rank-1", "mINP")
UNKNOWN = "not told"

# What entries call a data set -> what it is called in words, and the names of ours whose test split
# it has: MSMT17's versions and its training sets share one.
SETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "market1501": ("Market-1501", ("market1501",)),
    "dukemtmc-reid": ("DukeMTMC-reID", ("dukemtmc-reid",)),
    "msmt17": (
        "MSMT17",
        ("msmt17-v1", "msmt17-v1-trainval", "msmt17-v2", "msmt17-v2-trainval"),
    ),
    "cuhk03-labeled": ("CUHK03-NP, labelled", ("cuhk03-labeled",)),
    "cuhk03-detected": ("CUHK03-NP, detected", ("cuhk03-detected",)),
    "occluded-duke": ("Occluded-Duke", ("occluded-duke",)),
}

TRANSREID = "README of damo-cv/TransReID"
FASTREID = "MODEL_ZOO.md of JDAI-CV/fast-reid"
PWC = "Papers with Code, TransReID"
RGA_9 = "issue #9 of microsoft/Relation-Aware-Global-Attention-Networks"
NFORMER_9 = "issue #9 of haochenheheda/NFormer"
PAGE = "wizwand, a public web page on NFormer"


# The version of MSMT17 that a model's numbers are of, whose test images differ: as its authors' code
# has it. fast-reid reads both and does not say.
MSMT17 = {"vit-bot": "v1", "transreid": "v1", "nformer": "v2"}


@dataclass(frozen=True)
class Entry:
    """A number that somebody reports.

    model as in MODELS; dataset as in SETS; metric one of METRICS; what one of KINDS; configuration
    begins with whose number it is, up to a comma; protocol by name or UNKNOWN.
    """

    model: str
    dataset: str
    metric: str
    value: float
    what: str
    source: str
    configuration: str
    protocol: str = PROTOCOL

    @property
    def name(self) -> str:
        """Whose number it is: a model may be reported with several networks, none of them the runs'."""
        return self.configuration.split(",")[0]


def _each(
    model: str, what: str, source: str, configuration: str, protocol: str = PROTOCOL, **sets: str
) -> Iterator[Entry]:
    """Entries of one row of a table: data set -> "mAP/rank-1" or "mAP/rank-1/mINP" in per cent, a
    dash where nothing is confirmed."""
    for name, cells in sets.items():
        dataset = name.replace("_", "-")
        for metric, cell in zip(METRICS, cells.split("/"), strict=False):
            if cell != "-":
                value = round(float(cell) / 100, 6)
                yield Entry(model, dataset, metric, value, what, source, configuration, protocol)


ENTRIES: tuple[Entry, ...] = (
    *_each(
        *(
            "vit-bot",
            OFFICIAL,
            TRANSREID,
            "ViT-BoT on ViT-B/16, there the baseline, 256x128, released weights",
        ),
        market1501="87.1/94.6",
        dukemtmc_reid="79.6/89.0",
        msmt17="61.8/81.8",
        occluded_duke="53.8/61.1",
    ),
    *_each(
        *(
            "transreid",
            OFFICIAL,
            TRANSREID,
            "TransReID on ViT-B/16, overlapping patches, 256x128, released weights",
        ),
        market1501="89.0/95.1",
        dukemtmc_reid="82.2/90.7",
        msmt17="67.8/85.3",
        occluded_duke="59.5/67.4",
    ),
    *_each(
        *(
            "transreid",
            OFFICIAL,
            TRANSREID,
            "TransReID on DeiT-B/16, overlapping patches, released weights",
        ),
        market1501="88.5/95.1",
        dukemtmc_reid="81.9/90.7",
        msmt17="66.3/84.0",
        occluded_duke="57.7/65.2",
    ),
    *_each(
        *("transreid", PAPER, PWC, "TransReID at its best"),
        market1501="89.5/95.2",
        dukemtmc_reid="82.1/91.1",
    ),
    *_each("transreid", PAPER, PWC, "TransReID at its best, 384x128", msmt17="69.4/86.2"),
    Entry(
        "rga",
        "market1501",
        "mAP",
        0.884,
        PAPER,
        "wizwand, a public web page on RGA-SC",
        "RGA-SC, by its code's evaluation",
        LEGACY,
    ),
    Entry(
        "rga",
        "market1501",
        "rank-1",
        0.961,
        PAPER,
        "wizwand, a public web page on RGA-SC",
        "RGA-SC",
    ),
    Entry(
        "rga", "cuhk03-labeled", "rank-1", 0.811, PAPER, RGA_9, "RGA-SC, as quoted there", CUHK03
    ),
    *_each(
        *("rga", RERUN, RGA_9, "RGA-SC before BNNeck, scikit-learn's version not told", UNKNOWN),
        cuhk03_labeled="74.8/-",
    ),
    *_each(
        *("rga", RERUN, RGA_9, "RGA-SC after BNNeck, scikit-learn's version not told", UNKNOWN),
        cuhk03_labeled="74.0/-",
    ),
    *_each("rga", RERUN, RGA_9, "RGA-SC before BNNeck", CUHK03, cuhk03_labeled="-/77.0"),
    *_each("rga", RERUN, RGA_9, "RGA-SC after BNNeck", CUHK03, cuhk03_labeled="-/75.9"),
    *_each("nformer", PAPER, PAGE, "NFormer on ResNet-50", UNKNOWN, market1501="-/94.7"),
    *_each(
        "nformer",
        PAPER,
        NFORMER_9,
        "NFormer on ResNet-50, as quoted there",
        UNKNOWN,
        dukemtmc_reid="83.5/89.4",
    ),
    *_each(
        *(
            "nformer",
            PAPER,
            PAGE,
            "NFormer on ResNet-50, the code trains on V2, without val",
            UNKNOWN,
        ),
        msmt17="-/77.3",
    ),
    *_each(
        *("nformer", PAPER, PAGE, "NFormer on ABD-Net, whose code was never released", UNKNOWN),
        market1501="93.0/-",
        dukemtmc_reid="-/90.6",
        msmt17="62.2/-",
    ),
    *_each(
        *(
            "nformer",
            RERUN,
            NFORMER_9,
            "NFormer on ResNet-50, the Market-1501 configuration",
            JOINT,
        ),
        dukemtmc_reid="78.4/86.2",
    ),
    *_each(
        *("resnet-bot", TOOLKIT, FASTREID, "BoT on ResNet-50"),
        market1501="86.1/94.4/59.4",
        msmt17="50.2/74.1/10.4",
    ),
    *_each("resnet-bot", TOOLKIT, FASTREID, "BoT on ResNet-101-ibn", market1501="88.9/95.4/67.4"),
)
NOTES = {
    "rga": "RGA's evaluation pins scikit-learn 0.18.1, whose average precision is another quantity "
    f"(protocol {LEGACY}): its mAP compares with ours under that protocol alone.",
    "nformer": "NFormer's official test ranks queries and gallery that have seen one another "
    f"(protocol {JOINT}); by its paper queries do not see one another at test. Which of the two gave "
    "the paper's numbers is not told.",
    "msmt17": "The official code of TransReID, which ViT-BoT's number is of too, and of PHA trains on "
    "MSMT17's train and val together (V1); NFormer's (V2) and, unless told otherwise, fast-reid on "
    "train alone.",
    "pha": "No number of PHA's paper is entered: none could be confirmed.",
    "ohformer": "No number of OH-Former's paper is entered: none could be confirmed; it has no public "
    "code.",
}
