"""What to look at on the page Errors, measured on the run that is shown."""

from app import cached, errors, errors_others
from app.errors import Case
from app.lessons import Step
from reid_core.analysis.cameras import costliest
from reid_core.analysis.tags import clearest
from reid_core.runs import Run


def steps(run: Run, case: Case) -> list[Step]:
    """The failure with the most tags, the pair of cameras that costs most, and the run that differs
    most at rank 1."""
    return [_failure(case), _pair(case), _disagreement(run)]


def _failure(case: Case) -> Step:
    query = clearest(case.lists, case.tags)
    label, held = cached.labels(case.run, case.stamp)[query], case.held(query)
    first, precision = case.lists.first_hit[query], case.lists.average_precision[query]
    why = f"Its tags: {', '.join(held)}" if held else "No rule explains it"
    chosen = {"errors": "Inbox", "show": errors.WRONG, "part": errors.ALL, "query": label}
    if not case.lists.failed[query]:
        why, chosen["show"] = "No query of this run fails at rank 1", errors.EVERY
    return Step(
        "The most tagged failure",
        f"Of {int(case.lists.failed.sum())} failures none has more tags than this one: its first true match "
        f"has rank {first}, its average precision is {precision:.2f}. {why}; the numbers behind each "
        "rule stand below.",
        chosen,
    )


def _pair(case: Case) -> Step:
    pairs = case.pairs
    row, column = costliest(pairs)
    here, mean = pairs.precision[row, column], pairs.mean
    low, high = pairs.low[row, column], pairs.high[row, column]
    cost = (mean - here) * pairs.count[row, column] / pairs.count.sum()
    sure = "lies below that" if high < mean else "reaches that, so chance is not excluded"
    return Step(
        "The costliest pair of cameras",
        f"From camera {pairs.query_cameras[row]} to camera {pairs.match_cameras[column]} mAP is "
        f"{here:.2f}, against {mean:.2f} over all pairs (lists with the true matches of one camera, so "
        f"not the run's mAP): it takes {cost:.3f} from that mean, more than any other. Its interval "
        f"({low:.2f} to {high:.2f}) {sure}. The pair is framed.",
        {"errors": "Tables"},
    )


def _disagreement(run: Run) -> Step:
    best = errors_others.most_different(run)
    if best is None:
        return Step(
            "Two runs side by side",
            "Which queries does another run get right that this one gets wrong? Choose a run that was "
            "evaluated on the same test split.",
            {"errors": "Runs"},
        )
    name, pattern = best
    if not len(pattern.queries):
        return Step(
            "Two runs side by side",
            f"Of the best other runs none is right at rank 1 where this one is wrong, nor wrong where it "
            f"is right; {name} is one of them. Their lists below rank 1 may differ: see AP by query.",
            {"errors": "Runs", "against": [name]},
        )
    return Step(
        "The largest disagreement",
        f"Of the best other runs {name} differs most at rank 1: on {len(pattern.queries)} queries "
        f"{pattern.says((run.name, name))}. Walk through them with J and K; the interval below says "
        "whether the difference in mAP is more than chance.",
        {"errors": "Runs", "against": [name], "pattern": errors_others.code(pattern)},
    )
