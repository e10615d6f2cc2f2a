"""Maps of embeddings and what is measured beside them, against scikit-learn and slow loops."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import manifold, metrics

from reid_core.analysis import outliers, projection
from reid_core.analysis.layout import METHODS, aligned, enclosed, lay_out, moved
from reid_core.analysis.projection import KINDS, kept, median, space, spread
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, distances
from reid_core.runs import Run, open_run
from reid_core.studies import Stopped, Study
from reid_core.studies.projection import rows_of


@pytest.fixture(scope="module")
def cloud():
    """80 points of 9 identities (0 and -1 nobody, 8 alone) under three cameras."""
    random = np.random.default_rng(0)
    identities = np.concatenate([random.integers(1, 8, 70), [0] * 6, [-1] * 3, [8]])
    centres = random.normal(size=(10, 12))
    points = centres[identities] + 0.8 * random.normal(size=(80, 12))
    return points, identities, random.choice([-1, 0, 1, 2], 80)


def test_neighbours_and_distances_against_a_loop(cloud):
    points, identities, cameras = cloud
    found = spread(points, identities, cameras, 7)
    for row in range(80):
        far = np.array([np.linalg.norm(points[row] - each) for each in points])
        order = [each for each in np.argsort(far) if each != row][:7]
        assert found.neighbours[row].tolist() == order
        assert found.reach[row] == pytest.approx(far[order], abs=1e-5)
        same = [i for i in range(80) if i != row and identities[i] == identities[row]]
        if identities[row] < 1:
            assert np.isnan(found.own[row]) and np.isnan(found.silhouette[row])
            assert found.rival[row] == -1
            continue
        means = {
            who: far[identities == who].mean()
            for who in range(1, 9)
            if who != identities[row] and (identities == who).any()
        }
        rival = min(means, key=means.get)
        assert (found.rival[row], found.other[row]) == (rival, pytest.approx(means[rival]))
        if same:
            assert found.own[row] == pytest.approx(far[same].mean())


def test_silhouette_is_scikit_learns(cloud):
    points, identities, cameras = cloud
    known = identities > 0
    found = spread(points, identities, cameras, 5).silhouette
    expected = metrics.silhouette_samples(points[known], identities[known])
    assert found[known] == pytest.approx(expected, abs=1e-9)
    assert found[-1] == 0  # alone


def test_pairs_are_counted_once_and_by_kind(cloud):
    points, identities, cameras = cloud
    found = spread(points, identities, cameras, 5)
    by_kind = {kind: [] for kind in KINDS}
    for i in range(80):
        for j in range(i + 1, 80):
            if min(identities[i], identities[j]) < 1:
                continue
            same, beside = identities[i] == identities[j], cameras[i] == cameras[j] != -1
            kind = KINDS[2] if not same else KINDS[0] if beside else KINDS[1]
            by_kind[kind].append(np.linalg.norm(points[i] - points[j]))
    for counts, lengths in zip(found.counts, by_kind.values(), strict=True):
        assert counts.sum() == len(lengths)
        bin_width = found.edges[1]
        assert median(counts, found.edges) == pytest.approx(np.median(lengths), abs=bin_width)


def test_the_blocks_make_no_difference(cloud, monkeypatch):
    whole = spread(*cloud, 5)
    blocks = projection._blocks

    def small(points):
        for rows, matrix in blocks(points):
            for start in range(0, len(rows), 7):
                yield rows[start : start + 7], matrix[start : start + 7].copy()

    monkeypatch.setattr(projection, "_blocks", small)
    for one, other in zip(vars(whole).values(), vars(spread(*cloud, 5)).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_cosine_ranks_as_the_ranked_lists_do(cloud):
    vectors, identities, cameras = cloud
    near = spread(space(vectors, "cosine"), identities, cameras, 6).neighbours
    along = space(vectors, "cosine")
    matrix = distances(along, along)
    np.fill_diagonal(matrix, np.inf)
    assert (near == np.argsort(matrix, axis=1, kind="stable")[:, :6]).all()
    assert (space(vectors, "euclidean") == vectors).all()


@pytest.mark.parametrize("k", [3, 15])
def test_trust_against_scikit_learn_and_a_loop(cloud, k):
    points, identities, cameras = cloud
    layout = np.random.default_rng(1).normal(size=(80, 2)) + points[:, :2]
    shown = spread(layout, identities, cameras, k).neighbours
    found = projection.trustworthiness(points, shown)
    assert found == pytest.approx(
        manifold.trustworthiness(points, layout, n_neighbors=k), abs=1e-12
    )
    original = spread(points, identities, cameras, k).neighbours
    shares = [len(set(a) & set(b)) / k for a, b in zip(original, shown, strict=True)]
    assert kept(original, shown) == pytest.approx(shares)
    assert (kept(original, original) == 1).all()


def test_trustworthiness_of_few_images_is_unknown(cloud):
    shown = spread(*cloud, 40).neighbours
    assert np.isnan(projection.trustworthiness(cloud[0], shown))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dimensions", [pytest.param(2, marks=pytest.mark.long), 3])
def test_a_seeded_layout_is_the_same_every_time(cloud, method, dimensions):
    points, identities, cameras = cloud
    found = spread(points, identities, cameras, 20)
    knobs = dict(method=method, dimensions=dimensions, metric="euclidean", n_neighbors=8, seed=3)
    first, second = (lay_out(points, found, **knobs) for _ in range(2))
    assert first.shape == (80, dimensions) and first.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    assert np.abs(first.mean(axis=0)).max() < 1e-4


def test_pca_keeps_the_largest_variance(cloud):
    points = cloud[0]
    layout = lay_out(points, spread(*cloud, 5), method="pca")
    values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    assert np.linalg.norm(layout, axis=0) == pytest.approx(values[:2], rel=1e-5)


def test_umap_keeps_more_than_chance(cloud):
    points, identities, cameras = cloud
    found = spread(points, identities, cameras, 15)
    layout = lay_out(points, found, metric="euclidean")
    near = spread(layout.astype(float), identities, cameras, 15).neighbours
    assert kept(found.neighbours, near).mean() > 2 * 15 / 79


def test_alignment_undoes_turn_mirror_and_scale():
    random = np.random.default_rng(0)
    first = random.normal(size=(30, 3))
    first -= first.mean(axis=0)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    assert aligned(2.5 * first @ turn, first) == pytest.approx(first, abs=1e-5)
    far = moved(first + np.array([1, 0, 0]), first)
    assert far == pytest.approx(np.full(30, 1 / np.sqrt((first**2).sum(axis=1).mean())))


def test_work_in_progress_can_be_stopped(cloud):
    def stop(share):
        raise Stopped

    with pytest.raises(Stopped):
        lay_out(cloud[0], spread(*cloud, 5), method="pca", tell=stop)
    with pytest.raises(Stopped):
        spread(*cloud, 5, stop)


def test_what_cannot_be_laid_out(cloud):
    with pytest.raises(BadInput, match="at least 4"):
        spread(*(each[:3] for each in cloud), 5)
    with pytest.raises(BadInput, match="NaN"):
        space(np.full((5, 2), np.nan), "euclidean")
    flat = np.random.default_rng(0).normal(size=(9, 1))
    with pytest.raises(BadInput, match="at least 2 dimensions"):
        lay_out(flat, spread(flat, np.arange(9), np.ones(9), 3), method="pca")


def test_outliers_come_worst_first():
    identities = np.array([1, 1, 2, 2, 3, 0])
    silhouette = np.array([0.5, -0.2, 0.1, -0.9, 0.0, np.nan])
    assert outliers.worst(silhouette, identities).tolist() == [3, 1, 2, 0]  # 3 is alone
    assert outliers.scattered(silhouette, identities, least=2) == (2, pytest.approx(-0.4))
    assert outliers.scattered(silhouette, identities)[0] == -1
    assert outliers.gained(np.array([0.5, np.nan, 0.2]), np.array([0.6, 0.9, 0.7])) == 2
    assert outliers.gained(np.array([np.nan]), np.array([1.0])) == -1


def test_reasons_are_what_the_table_says():
    identities, cameras = np.array([1, 1, 2, 3, 3, 0]), np.array([1, 2, 2, 3, 3, 1])
    known = dict(
        occlusion=np.array(["0.400", "0.1", "", "0", "0", "0"]),
        lookalike_group=np.array(["g1", "g1", "g1", "", "", ""]),
        box_error=np.array(["none", "shift", "none", "none", "", "none"]),
    )
    rival = np.array([2, 3, 1, 1, 2, -1])
    neighbours = np.array([[1, 2], [0, 2], [0, 1], [4, 4], [3, 3], [0, 1]])
    found = outliers.reasons(identities, cameras, rival, neighbours, known)
    holds = {name: each.tolist() for name, each in zip(outliers.NAMES, found.holds, strict=True)}
    assert holds["occluded"] == [True, False, False, False, False, False]
    assert holds["look-alike"] == [True, False, True, False, False, False]
    assert holds["box error"] == [False, True, False, False, False, False]
    assert holds["one camera"] == [True, False, False, True, True, False]
    assert holds["unknown"] == [False, False, False, False, False, True]
    assert found.share[outliers.NAMES.index("occluded")] == pytest.approx(1 / 5)
    nothing = outliers.reasons(identities, cameras, rival, neighbours, {})
    assert not nothing.holds[:3].any()


# Studies


def twin(run: Run, name: str, change=None) -> Run:
    """A copy of a run whose images stand in another order."""
    import shutil

    other = Run(name, run.folder.parent / name)
    shutil.copytree(run.folder, other.folder)
    found = run.embeddings()
    order = np.random.default_rng(0).permutation(len(found.names))
    fields = {key: value for key, value in vars(found).items() if key in found.__dataclass_fields__}
    mixed = {k: v if v is None else v[order] for k, v in fields.items()}
    other.keep_embeddings(Embeddings(**(change(mixed) if change else mixed)))
    return other


def test_a_second_map_stands_in_the_first_ones_order(tiny_run):
    run = open_run(tiny_run)
    other = twin(run, "other")
    found = Study.asked(run, "projection", dict(method="pca", other="other")).compute()
    layouts = found["layouts"]
    assert layouts.shape == (2, len(run.embeddings().names), 2)
    # The same embeddings in another order: the same map, once matched by name.
    assert layouts[1] == pytest.approx(layouts[0], abs=1e-4)
    assert found["moved"] == pytest.approx(0, abs=1e-4)
    assert (found["same"] == 1).all()
    rows = rows_of(run.embeddings(), other.embeddings())
    assert (other.embeddings().names[rows] == run.embeddings().names).all()


def test_another_data_set_is_refused(tiny_run):
    run = open_run(tiny_run)

    def renamed(arrays):
        return arrays | dict(names=np.array([f"x{name}" for name in arrays["names"]]))

    def relabelled(arrays):
        return arrays | dict(identities=arrays["identities"] + 1)

    for name, change, word in (("a", renamed, "0 in common"), ("b", relabelled, "same people")):
        twin(run, name, change)
        with pytest.raises(BadInput, match=word):
            Study.asked(run, "projection", dict(method="pca", other=name)).compute()


def test_an_encoder_is_asked_of_a_run_that_refines(tiny_run):
    study = Study.asked(open_run(tiny_run), "projection", dict(method="pca", encoder=True))
    with pytest.raises(BadInput, match="NFormer"):
        study.compute()
    with pytest.raises(BadInput, match="got both"):
        both = dict(method="pca", encoder=True, other=tiny_run)
        Study.asked(open_run(tiny_run), "projection", both).compute()


def test_before_and_after_refining(tiny_run):
    run = open_run(tiny_run)
    found = run.embeddings()
    random = np.random.default_rng(0).normal(size=found.vectors.shape)
    run.keep_embeddings(replace(found, encoded=(found.vectors + random).astype(np.float32)))
    arrays = Study.asked(run, "projection", dict(method="pca", encoder=True)).compute()
    assert arrays["trust"].shape == (2, len(found.names))
    assert (arrays["chance"] < 1e-4).all()  # PCA has no chance in it
    assert arrays["moved"].mean() > 0.01
    lies = [Study.asked(run, "spread", dict(stage=stage)).found() for stage in ("final", "encoder")]
    near = [each["neighbours"][:, :15] for each in lies]
    assert arrays["same"] == pytest.approx(kept(*near))


def test_a_study_can_be_cancelled(tiny_run):
    study = Study.asked(open_run(tiny_run), "projection", dict(method="pca"))
    with pytest.raises(Stopped):
        study.compute(lambda done, total: study.stop())
    assert study.standing().state == "stopped"
    assert study.compute()["layouts"].shape[0] == 1


def test_crops_show_the_image_of_their_row(tiny_run, tiny_data):
    import io

    from PIL import Image

    run = open_run(tiny_run)
    found = Study.asked(run, "crops").compute()
    sheet = Image.open(io.BytesIO(found["sheet"].tobytes()))
    (height, width), columns = found["tile"], int(found["columns"])
    row = 5
    corner = row % columns * width, row // columns * height
    crop = sheet.crop((*corner, corner[0] + width, corner[1] + height))
    image = Image.open(tiny_data / str(run.embeddings().names[row])).convert("RGB")
    far = np.asarray(image.resize((width, height)), float) - np.asarray(crop, float)
    assert np.abs(far).mean() < 12


def test_a_map_needs_no_pictures(tiny_run, monkeypatch, tmp_path):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "nowhere"))
    run = open_run(tiny_run)
    assert Study.asked(run, "projection", dict(method="pca")).compute()["layouts"].shape[0] == 1
    assert Study.asked(run, "crops").found() is None


def test_a_polygon_encloses_what_a_ray_leaves_an_odd_number_of_times():
    rng = np.random.default_rng(0)
    places, polygon = rng.uniform(-1, 1, (200, 2)), rng.uniform(-1, 1, (9, 2))  # it crosses itself

    def slow(x, y):
        crossed = 0
        for place in range(len(polygon)):
            (x1, y1), (x2, y2) = polygon[place], polygon[(place + 1) % len(polygon)]
            share = (y - y1) / (y2 - y1)
            crossed += 0 <= share < 1 and x1 + share * (x2 - x1) > x
        return crossed % 2 == 1

    assert enclosed(places, polygon).tolist() == [slow(*each) for each in places]
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    assert enclosed(np.array([[0.5, 0.5], [1.5, 0.5], [-0.1, 0.2]]), square).tolist() == [
        True,
        False,
        False,
    ]
