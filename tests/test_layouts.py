"""Every layout of real data sets, small: recognised wherever it lies, read right, refused with a reason."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS, NAMES, build
from PIL import Image

from reid_core.__main__ import main
from reid_core.data import DATASETS, base, default_root, find, joined, open_dataset, prepare
from reid_core.data.doctor import examine
from reid_core.errors import BadInput


@pytest.fixture(scope="session")
def made(tiny_data, tmp_path_factory):
    """layout -> the root it was made below; each is made once and only ever read."""
    roots: dict[str, Path] = {}

    def root_of(layout: str) -> Path:
        if layout not in roots:
            roots[layout] = tmp_path_factory.mktemp(layout)
            build(layout, tiny_data, roots[layout])
        return roots[layout]

    return root_of


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch) -> Path:
    """The user's own folder of data sets, empty."""
    monkeypatch.setenv("REID_DATA", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def make(tiny_data, tmp_path):
    """Build a layout that a test may damage; returns its home."""
    return lambda layout: build(layout, tiny_data, tmp_path / "damaged")


def refused(name: str, data: Path) -> str:
    with pytest.raises(BadInput) as caught:
        open_dataset(name, data)
    message = str(caught.value)
    assert "\n" not in message
    return message


def splits(dataset):
    return dataset.train, dataset.query, dataset.gallery


PAIRS = [(layout, name) for layout in LAYOUTS for name in NAMES[layout]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_found_and_why(made, layout):
    found = find(made(layout))
    assert tuple(each.name for each in found) == NAMES[layout]
    assert len({each.home for each in found}) == 1
    for each in found:
        assert each.why and "\n" not in each.why
    # ... and the same, a few levels deeper and through a link
    deep = made(layout).parent / f"{layout}-deep" / "datasets"
    if not deep.is_dir():
        deep.mkdir(parents=True)
        (deep / "reid").symlink_to(made(layout), target_is_directory=True)
    assert tuple(each.name for each in find(deep.parent)) == NAMES[layout]


@pytest.mark.parametrize(("layout", "name"), PAIRS)
def test_each_layout_is_read(made, layout, name):
    dataset = open_dataset(name, made(layout))
    views = len(DATASETS[name].views)
    for split in splits(dataset):
        assert len(split) == len(split.identities) == len(split.cameras) == len(split.views) > 0
        assert all(path.is_file() and path.is_relative_to(dataset.root) for path in split.paths)
        assert split.identities.dtype.kind == split.cameras.dtype.kind == "i"
        assert -1 not in split.identities and split.views.max() < views
        assert split.cameras.min() >= 1 or (split.cameras == -1).all() or name.endswith("500k")
    # every query has somebody to find, and nobody who is asked for is a stranger
    assert set(dataset.query.identities) <= set(dataset.gallery.identities)
    assert len(np.unique(dataset.train.identities)) == 8


def test_names_in_the_table_are_the_ones_that_others_count_on():
    assert list(DATASETS) == [
        *("pedestrians", "market1501", "market1501-500k", "dukemtmc-reid", "occluded-duke"),
        *("msmt17-v1", "msmt17-v1-trainval", "msmt17-v2", "msmt17-v2-trainval"),
        *("cuhk03-labeled", "cuhk03-detected", "veri776"),
        *("vehicleid-800", "vehicleid-1600", "vehicleid-2400", "folder"),
    ]
    for name, family in DATASETS.items():
        published = set(family.published)
        assert published <= {"train", "query", "gallery"}
        assert published or name in ("pedestrians", "folder")


def test_several_below_one_root_are_all_found_and_each_opens(tiny_data, tmp_path):
    for layout in ("market1501", "dukemtmc-reid", "msmt17-v1", "msmt17-v2", "veri776"):
        build(layout, tiny_data, tmp_path / "disk")
    found = {each.name: each.home for each in find(tmp_path / "disk")}
    assert len(found) == 7
    for name, home in found.items():
        assert open_dataset(name, tmp_path / "disk").root == home


def test_junk_is_left_out_and_distractors_stay(made):
    plain = open_dataset("market1501", made("market1501"))
    assert 0 in plain.gallery.identities and -1 not in plain.gallery.identities
    more = open_dataset("market1501-500k", made("market1501-500k")).gallery
    assert len(more) == len(plain.gallery) + 5
    assert (more.identities[-5:] == 0).all() and (more.cameras[-5:] == -1).all()


def test_the_distractors_may_lie_beside(make):
    home = make("market1501-500k")
    (home / "distractors_500k").rename(home.parent / "distractors_500k")
    dataset = open_dataset("market1501-500k", home)
    assert all(path.is_relative_to(dataset.root) for path in dataset.gallery.paths)
    assert (dataset.gallery.identities[-5:] == 0).all()


def test_occluded_duke_is_told_by_its_queries_too(make, monkeypatch):
    from reid_core.data import duke

    home = make("dukemtmc-reid")
    monkeypatch.setattr(duke, "OCCLUDED_QUERIES", len(list((home / "query").iterdir())))
    assert [each.name for each in find(home)] == ["occluded-duke"]


def test_msmt17_reads_its_lists(made):
    root = made("msmt17-v1")
    short, whole = (open_dataset(name, root) for name in ("msmt17-v1", "msmt17-v1-trainval"))
    assert len(whole.train) == len(short.train) + 1
    cameras = [int(path.name.split("_")[2]) for path in whole.train.paths]
    assert whole.train.cameras.tolist() == cameras
    assert whole.query.identities.min() == 0 and DATASETS["msmt17-v1"].restarts


def test_labels_are_sorted_so_that_rows_map_back(made):
    from reid_core.experiment import Experiment
    from reid_core.feed import facts_of

    train = open_dataset("dukemtmc-reid", made("dukemtmc-reid")).train
    assert facts_of(train).classes == 8
    rows = np.unique(train.identities, return_inverse=True)
    assert (rows[0][rows[1]] == train.identities).all() and (np.diff(rows[0]) > 0).all()
    Experiment.create(model="transreid", recipe="demo", dataset="dukemtmc-reid")


# CUHK03


def test_the_three_forms_of_cuhk03_are_one_data_set(made):
    forms = [
        open_dataset("cuhk03-labeled", made(f"cuhk03-{form}"))
        for form in ("folders", "images", "mat")
    ]
    for parts in zip(*map(splits, forms), strict=True):
        rows = [
            sorted(
                (who, where, np.asarray(Image.open(path)).tobytes())
                for path, who, where in zip(part.paths, part.identities, part.cameras, strict=True)
            )
            for part in parts
        ]
        assert rows[0] == rows[1] == rows[2]


def test_the_original_file_is_unpacked_once_beside_the_users_data(make, own_place):
    root = make("cuhk03-mat")
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    told = []
    dataset = prepare("cuhk03-labeled", root, lambda done, total: told.append((done, total)))
    assert dataset.root.parent == own_place / "unpacked"
    assert told[-1][0] == told[-1][1] == len(told)
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before
    told.clear()
    prepare("cuhk03-labeled", root, lambda done, total: told.append((done, total)))
    assert told == []  # nothing is left to do


def test_unpacking_goes_on_where_it_was_cut(make):
    from reid_core.data import cuhk03_mat

    root = make("cuhk03-mat")

    def cut(done: int, total: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("cuhk03-detected", root, cut)
    folder = cuhk03_mat.place_of(root / "cuhk03_release" / "cuhk-03.mat", "detected")
    first = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    assert first
    whole = open_dataset("cuhk03-detected", root)
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(list(whole.root.glob("*.png"))) > len(first)


def test_a_changed_original_is_unpacked_anew(make):
    root = make("cuhk03-mat")
    first = open_dataset("cuhk03-labeled", root).root
    os.utime(root / "cuhk03_release" / "cuhk-03.mat", (1, 1))
    assert open_dataset("cuhk03-labeled", root).root != first


def test_damaged_matlab_files_are_named(make):
    root = make("cuhk03-mat")
    file, protocol = (
        root / "cuhk03_release" / "cuhk-03.mat",
        root / "cuhk03_new_protocol_config_labeled.mat",
    )
    content, said = file.read_bytes(), protocol.read_bytes()
    for damage in (content[: len(content) // 2], b"no matrix at all", b""):
        file.write_bytes(damage)
        assert "cuhk-03.mat" in refused("cuhk03-labeled", root)
    file.write_bytes(content)
    for damage in (said[: len(said) // 2], b"no matrix at all" * 99, b""):
        protocol.write_bytes(damage)
        assert protocol.name in refused("cuhk03-labeled", root)
    protocol.unlink()
    assert protocol.name in refused("cuhk03-labeled", root)


@pytest.mark.parametrize(
    "odd", ["/etc/1_001_1_01.png", "../1_001_1_01.png", "..\\1_001_1_01.png", ".."]
)
def test_a_protocol_file_names_no_image_elsewhere(make, odd):
    from scipy.io import loadmat, savemat

    root = make("cuhk03-images")
    protocol = root / "cuhk03_new_protocol_config_labeled.mat"
    said = {key: value for key, value in loadmat(protocol).items() if not key.startswith("_")}
    said["filelist"].ravel()[0] = np.array([odd if "_" in odd else f"{odd}/a_b_1_c.png"])
    savemat(protocol, said)
    message = refused("cuhk03-labeled", root)
    assert "no image right in images_labeled" in message and protocol.name in message


def test_links_out_of_the_original_are_not_followed(make, tmp_path):
    import h5py

    root = make("cuhk03-mat")
    file = root / "cuhk03_release" / "cuhk-03.mat"
    file.rename(tmp_path / "elsewhere.mat")
    with h5py.File(file, "w") as mat:
        mat["labeled"] = h5py.ExternalLink(str(tmp_path / "elsewhere.mat"), "labeled")
    assert "not CUHK03's" in refused("cuhk03-labeled", root)


# VeRi-776 and VehicleID


def test_viewpoints_of_veri(make):
    home = make("veri776")
    dataset = open_dataset("veri776", home)
    assert set(dataset.train.views) == set(range(8))
    assert (dataset.query.views >= 0).all() and (dataset.gallery.views >= 0).all()
    assert DATASETS["veri776"].views[dataset.train.views[1]] == "rear"
    table = home / "keypoint_train.txt"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0].rpartition(" ")[0] + " 8", *lines[1:]]))
    assert open_dataset("veri776", home).train.views.tolist().count(-1) == 1
    table.write_text("VeRi/image_train/x.jpg 1 2 sideways\n")
    assert "keypoint_train.txt, line 1" in refused("veri776", home)
    table.unlink()
    assert (open_dataset("veri776", home).train.views == -1).all()


def test_vehicleid_keeps_the_whole_list_to_draw_from(made):
    dataset = open_dataset("vehicleid-800", made("vehicleid"))
    assert (np.unique(dataset.gallery.identities, return_counts=True)[1] == 1).all()
    both = sorted(path.stem for split in (dataset.query, dataset.gallery) for path in split.paths)
    table = made("vehicleid") / "VehicleID_V1.0" / "train_test_split" / "test_list_800.txt"
    assert both == sorted(line.split()[0] for line in table.read_text().splitlines())
    again = open_dataset("vehicleid-800", made("vehicleid"))
    assert again.gallery.paths == dataset.gallery.paths
    assert (dataset.train.cameras == -1).all()


# A folder of one's own


def own(folder: Path, *rows: str, header: str = "path,identity,camera,split") -> Path:
    folder.mkdir(exist_ok=True)
    for row in rows:
        name = row.split(",")[0]
        if name.endswith(".png") and ".." not in name and not name.startswith("missing"):
            Image.new("RGB", (4, 8)).save(folder / Path(name).name)
    text = "\n".join([header, *rows]) + "\n"
    (folder / "table.csv").write_text(text, "utf-8", "surrogateescape")
    return folder


ROWS = ("a.png,ann,door,train", "b.png,bob,door,train", "c.png,cat,hall,query")


def test_words_are_numbered_in_sorted_order_over_all_splits(tmp_path):
    rows = (*ROWS, "d.png,cat,,gallery", "e.png,0,unknown,gallery", "f.png,-1,hall,gallery")
    dataset = open_dataset("folder", own(tmp_path / "mine", *rows))
    assert dataset.train.identities.tolist() == [1, 2]
    assert dataset.query.identities.tolist() == [3]
    assert dataset.gallery.identities.tolist() == [3, 0]
    assert dataset.train.cameras.tolist() == [1, 1] and dataset.query.cameras.tolist() == [2]
    assert dataset.gallery.cameras.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("a.png,ann,door,training",), "table.csv, line 2: expected split"),
        ((*ROWS, "d.png,,hall,gallery"), "table.csv, line 5: no identity"),
        ((*ROWS, "d.png,NaN,hall,gallery"), "table.csv, line 5: identity NaN says nobody"),
        ((*ROWS, "../d.png,cat,hall,gallery"), "table.csv, line 5: ../d.png leads out"),
        ((*ROWS, "/etc/d.png,cat,hall,gallery"), "leads out"),
        ((*ROWS, "missing.png,cat,hall,gallery"), "names 4 images and 1 of them are missing"),
        (ROWS, "no image of split gallery"),
        ((), "is empty"),
        (
            ('"' + "a" * 140_000,),
            "is no CSV in UTF-8 (field larger than field limit (131072)): save",
        ),
        (("a.png,\udcff,door,train",), "is no CSV in UTF-8 ('utf-8' codec"),
    ],
)
def test_tables_with_mistakes(tmp_path, rows, message):
    assert message in refused("folder", own(tmp_path / "mine", *rows))


def test_whole_numbers_with_a_point_are_those_numbers(tmp_path):
    plain = ("1,1,train", "2,2,train", "7,3,query", "7,-1,gallery", "0,2,gallery", "-1,2,gallery")
    floats = ("1.0,1.0,train", "2.0,2.,train", "0007.0,3.0,query", "7.00,-1.0,gallery")
    floats = (*floats, "0.0,2.0,gallery", "-1.0,2.0,gallery")
    gaps = ("1,1,train", "2,2,train", "7,3.0,query", "7.0,nan,gallery")
    gaps = (*gaps, "0000,2,gallery", "-01,2,gallery")
    known = of_table(tmp_path / "plain", plain)
    assert known[2].tolist() == [7, 0] and known[-1].tolist() == [-1, 2]
    for name, rows in (("floats", floats), ("gaps", gaps)):
        for one, other in zip(known, of_table(tmp_path / name, rows), strict=True):
            assert one.tolist() == other.tolist()


def of_table(folder: Path, rows: tuple[str, ...]) -> list[np.ndarray]:
    """The identities and then the cameras of a table's splits."""
    lines = [f"{row}.png,{line}" for row, line in enumerate(rows)]
    read = splits(open_dataset("folder", own(folder, *lines, header="path,identity,camera,split")))
    return [split.identities for split in read] + [split.cameras for split in read]


@pytest.mark.parametrize("word", ["ann", "9" * 19])
@pytest.mark.parametrize(("nobody", "junk"), [("0000", "-1"), ("0", "-1.0"), ("0.0", "-01")])
def test_among_words_distractors_and_junk_stay_what_they_are(tmp_path, word, nobody, junk):
    rows = (f"{word},1,train", "8,1,train", "0007,1,query", "0007.0,2,gallery")
    rows = (*rows, f"{nobody},2,gallery", f"{junk},2,gallery")
    train, query, gallery, *_ = of_table(tmp_path / "mine", rows)
    assert gallery.tolist() == [query[0], 0] and len({*train, *query}) == 3
    assert min(*train, *query) == 1


@pytest.mark.parametrize("word", ["", "nan", "NA", "n/a", "None", "NULL", "?", "unknown", "-1"])
def test_a_camera_that_is_not_there_is_unknown(tmp_path, word):
    rows = ("1,1,train", "2,2,train", "7,3,query", f"7,{word},gallery")
    assert of_table(tmp_path / "mine", rows)[-1].tolist() == [-1]


@pytest.mark.parametrize("word", ["nan", "NA", "None", "?"])
def test_an_identity_that_says_nobody_is_refused(tmp_path, word):
    home = own(tmp_path / "mine", "0.png,1,1,train", f"1.png,{word},1,train")
    assert f"identity {word} says nobody" in refused("folder", home)


def test_a_column_that_is_there_twice(tmp_path):
    home = own(tmp_path / "mine", "0.png,ann,7,train", header="path,Identity,identity,split")
    assert "has the column identity twice: rename or remove one" in refused("folder", home)


def test_two_tables_and_none(tmp_path):
    home = own(tmp_path / "mine", *ROWS)
    (home / "other.csv").write_bytes((home / "table.csv").read_bytes())
    assert "other.csv, table.csv" in refused("folder", home)
    (tmp_path / "none").mkdir()
    assert "found nothing there" in refused("folder", tmp_path / "none")


def test_numbers_stay_what_they_are(made):
    dataset = open_dataset("folder", made("folder-no-cameras"))
    assert set(dataset.train.identities) == set(range(1, 9))
    assert (dataset.train.cameras == -1).all()


# What is not there


def test_a_list_that_names_what_is_missing(make):
    home = make("msmt17-v1")
    paths = open_dataset("msmt17-v1", home).gallery.paths
    for path in paths[3:6]:
        path.unlink()
    message = refused("msmt17-v1", home)
    assert f"list_gallery.txt names {len(paths)} images and 3 of them are missing" in message
    assert str(paths[3]) in message


@pytest.mark.parametrize(
    ("layout", "name", "table", "line", "message"),
    [
        ("msmt17-v1", "msmt17-v1", "list_query.txt", "0001.jpg", "line 1: expected a path"),
        (
            "msmt17-v1",
            "msmt17-v1",
            "list_query.txt",
            "0/0_1_x_2.jpg 1",
            "line 1: expected the camera",
        ),
        ("msmt17-v2", "msmt17-v2", "list_train.txt", "", "is empty"),
        (
            "msmt17-v2",
            "msmt17-v2",
            "list_train.txt",
            "../../0_1_01_2.jpg 4",
            "line 1: expected a path",
        ),
        (
            "vehicleid",
            "vehicleid-1600",
            "train_test_split/test_list_1600.txt",
            "5",
            "line 1: expected",
        ),
        (
            "vehicleid",
            "vehicleid-800",
            "train_test_split/train_list.txt",
            "1 x",
            "line 1: expected an",
        ),
        ("vehicleid", "vehicleid-800", "train_test_split/train_list.txt", "9999999 1", "1 of them"),
        (
            "veri776",
            "veri776",
            "name_train.txt",
            "0009_c001_00000000_0.jpg",
            "1 of them are missing",
        ),
    ],
)
def test_lists_with_mistakes(make, layout, name, table, line, message):
    home = make(layout)
    (home / table).write_text(line + "\n")
    refusal = refused(name, home)
    assert message in refusal and Path(table).name in refusal


@pytest.mark.parametrize(
    ("layout", "name", "gone"),
    [
        ("market1501", "market1501", "query"),
        ("dukemtmc-reid", "dukemtmc-reid", "bounding_box_test"),
        ("msmt17-v2", "msmt17-v2", "list_gallery.txt"),
        ("msmt17-v1", "msmt17-v1-trainval", "list_val.txt"),
        ("veri776", "veri776", "image_query"),
        ("vehicleid", "vehicleid-2400", "train_test_split/test_list_2400.txt"),
        ("cuhk03-images", "cuhk03-labeled", "cuhk03_new_protocol_config_labeled.mat"),
    ],
)
def test_half_a_layout_says_what_is_missing(make, tmp_path, layout, name, gone):
    home = make(layout)
    (home / gone).rename(tmp_path / "taken")
    for root in (home, tmp_path / "damaged"):
        assert gone in refused(name, root)


@pytest.mark.parametrize("lost", [(), ("dataset.json",), ("dataset.json", "masks/palette.json")])
@pytest.mark.parametrize("name", ["pedestrians", "market1501", "folder"])
def test_masks_are_no_data_set(tiny_data, tmp_path, lost, name):
    home = tmp_path / "drawn"
    shutil.copytree(tiny_data, home)
    for gone in lost:
        (home / gone).unlink()
    shutil.rmtree(home / "query")
    assert find(home) == find(home / "masks") == []
    assert f"{home} lacks query: is it half extracted?" in refused(name, home)
    assert (
        f"part masks (a palette.json, or the folders beside it again), no photographs: give the folder above it, {home}"
        in refused(name, home / "masks")
    )


def test_a_run_whose_data_lost_a_folder_is_not_evaluated_on_masks(
    tiny_run, tiny_data, tmp_path, capsys
):
    home = tmp_path / "drawn"
    shutil.copytree(tiny_data, home)
    shutil.rmtree(home / "query")
    assert main(["evaluate", tiny_run, "--data", str(home)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and f"{home} lacks query" in err


def test_a_data_set_may_lie_in_a_folder_called_masks(tiny_data, tmp_path):
    """Persons with face masks, say."""
    for name in ("bounding_box_train", "bounding_box_test", "query"):
        shutil.copytree(tiny_data / name, tmp_path / "masks" / name)
    assert len(open_dataset("market1501", tmp_path / "masks").train)
    assert find(tmp_path)
    shutil.copytree(tiny_data, tmp_path / "drawn" / "masks")  # which has masks of its own
    assert len(open_dataset("pedestrians", tmp_path / "drawn" / "masks").train)


def test_masks_are_known_by_their_palette_too(tiny_data, tmp_path):
    shutil.copytree(tiny_data / "masks", tmp_path / "beside")
    assert find(tmp_path) == []
    assert "beside holds part masks" in refused("folder", tmp_path / "beside")
    assert "found beside there" in refused("pedestrians", tmp_path)


def test_nothing_stands_in_for_drawn_people_who_are_damaged(make, tiny_data, tmp_path):
    shutil.copytree(tiny_data, tmp_path / "drawn")
    shutil.rmtree(tmp_path / "drawn" / "query")
    make("market1501").rename(tmp_path / "drawn" / "copy")
    assert "drawn lacks query" in refused("pedestrians", tmp_path / "drawn")


def test_another_data_set_is_named(made):
    message = refused("msmt17-v1", made("msmt17-v2"))
    assert "is MSMT17 V2" in message and "say msmt17-v2 or msmt17-v2-trainval" in message
    assert "is DukeMTMC-reID" in refused("market1501", made("dukemtmc-reid"))
    assert "is Occluded-Duke" in refused("dukemtmc-reid", made("occluded-duke"))
    assert "is Market-1501" in refused("cuhk03-labeled", made("market1501"))
    assert "is VehicleID" in refused("veri776", made("vehicleid"))
    assert "is Market-1501" in refused("market1501-500k", made("market1501"))


def test_a_folder_that_calls_itself_the_other_version(make):
    home = make("msmt17-v1")
    lying = home.with_name("MSMT17_V2")
    home.rename(lying)
    assert find(lying) == []
    assert "is called like another version" in refused("msmt17-v1", lying)
    assert "mask_train_v2" in refused("msmt17-v2", lying)


def test_anything_in_markets_layout_reads_as_a_folder(made, tiny_data):
    for layout in ("market1501", "dukemtmc-reid", "folder-market-names"):
        assert len(open_dataset("folder", made(layout)).train) == 64
    assert len(open_dataset("market1501", tiny_data).train) == 64


def test_an_archive_that_nobody_unpacked(tmp_path):
    (tmp_path / "disk").mkdir()
    archive = tmp_path / "disk" / "MSMT17_V1.tar.gz"
    archive.write_bytes(b"")
    assert f"{archive} is not unpacked" in refused("msmt17-v1", tmp_path / "disk")
    assert "is an archive: unpack it" in refused("msmt17-v1", archive)
    assert "no folder" in refused("msmt17-v1", tmp_path / "nowhere")


def test_a_folder_inside_of_the_data_set(made):
    home = find(made("msmt17-v1"))[0].home
    for inside in (home / "train", home / "test" / "0000"):
        assert f"give {home}" in refused("msmt17-v1", inside)


def test_images_of_other_names(make):
    home = make("dukemtmc-reid")
    for folder in ("query", "bounding_box_test"):
        for path in (home / folder).iterdir():
            path.rename(path.with_name("x" + path.name))
    assert "no image in" in refused("dukemtmc-reid", home)


def test_closed_folders_are_told(make, monkeypatch):
    home = make("market1501")
    closed = home.parent / "closed"
    closed.mkdir()
    real = os.scandir

    def scandir(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "not allowed to use" in refused("msmt17-v1", closed)
    (home / "query").rename(home.parent / "query")
    assert f"not allowed to look into {closed}" in refused("market1501", home.parent)


def test_walks_end(make, monkeypatch):
    home = make("market1501")
    (home.parent / "again").symlink_to(home.parent, target_is_directory=True)
    assert len(find(home.parent)) == 1
    deep = home.parent.joinpath(*"abcdef")
    deep.mkdir(parents=True)
    assert len(list(base.walk(home.parent, home.__eq__))) == 1 + 1 + base.DEPTH
    monkeypatch.setattr(base, "FOLDERS_AT_MOST", 3)
    assert len(list(base.walk(home.parent))) == 3


# Joined sets, and places


def test_joined_sets_train_together_and_test_on_the_first(tiny_data, tmp_path):
    for layout in ("market1501", "msmt17-v1", "vehicleid"):
        build(layout, tiny_data, tmp_path / "disk")
    name = "market1501+msmt17-v1+vehicleid-800"
    both = open_dataset(name, tmp_path / "disk")
    parts = [open_dataset(each, tmp_path / "disk") for each in name.split("+")]
    assert len(both.train) == sum(len(part.train) for part in parts)
    assert both.root == parts[0].root
    assert both.query.paths == parts[0].query.paths
    assert (both.query.cameras == parts[0].query.cameras).all()
    which, own = np.divmod(both.train.identities, joined.IDENTITIES)
    assert np.bincount(which).tolist() == [len(part.train) for part in parts]
    assert (own == np.concatenate([part.train.identities for part in parts])).all()
    assert len(np.unique(both.train.identities)) == 24
    cameras = both.train.cameras
    assert set(cameras) == {1, 2, 3, 1001, 1002, 1003, -1}
    assert (cameras[which == 2] == -1).all()
    with pytest.raises(BadInput, match="with itself"):
        open_dataset("market1501+market1501", tmp_path / "disk")
    with pytest.raises(BadInput, match="dataset"):
        open_dataset("market1501+nothing", tmp_path / "disk")


def test_ones_own_folder_is_not_another_data_set_beside_it(tiny_data, tmp_path):
    disk = tmp_path / "disk"
    build("market1501", tiny_data, disk)
    assert open_dataset("folder", disk).root.name == "Market-1501-v15.09.15"  # what else
    with pytest.raises(BadInput, match=r"both train on 64 images .* two persons"):
        open_dataset("market1501+folder", disk)
    told = examine(disk, "market1501+folder")
    assert told.code == 1 and any("two persons" in each.message for each in told.findings)
    build("folder", tiny_data, disk / "mine")
    assert open_dataset("folder", disk).root == disk / "mine"
    assert len(open_dataset("market1501+folder", disk).train) == 128
    assert [each.home for each in examine(disk, "folder").recognised] == [str(disk / "mine")]
    assert open_dataset("folder", disk / "Market-1501-v15.09.15").query.paths
    build("folder", tiny_data, disk / "more")
    with pytest.raises(BadInput, match=r"several lie in .*mine, .*more; name one"):
        open_dataset("folder", disk)
    told = examine(disk, "folder")
    assert told.code == 1 and "several lie in" in told.findings[0].message


def test_sets_that_train_on_the_same_images_are_not_joined(tiny_data, tmp_path):
    build("msmt17-v1", tiny_data, tmp_path)
    with pytest.raises(BadInput, match="msmt17-v1 and msmt17-v1-trainval both train on"):
        open_dataset("msmt17-v1+msmt17-v1-trainval", tmp_path)


def test_numbers_too_large_to_be_joined(tiny_data, tmp_path):
    build("market1501", tiny_data, tmp_path)
    build("msmt17-v1", tiny_data, tmp_path)
    path = next(tmp_path.rglob("bounding_box_train/*.jpg"))
    path.rename(path.with_name(f"{joined.IDENTITIES}_c1s1_000000_00.jpg"))
    with pytest.raises(BadInput, match="identity 1000000000 is too large to be joined"):
        open_dataset("market1501+msmt17-v1", tmp_path)
    told = [
        each
        for each in examine(tmp_path, "market1501+msmt17-v1").findings
        if each.severity == "error"
    ]
    assert [(each.kind, each.remedy) for each in told] == [
        ("layout", "number its identities and cameras anew, from 1")
    ]


def test_one_set_under_two_names_is_not_joined(tiny_data, tmp_path):
    """Two links to one folder, or links within it, are the same images."""
    build("market1501", tiny_data, tmp_path / "real")
    (home,) = (tmp_path / "real").iterdir()
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "market1501").symlink_to(home)
    (disk / "folder").symlink_to(home)
    with pytest.raises(BadInput, match="both train on"):
        open_dataset("market1501+folder", disk)


def test_a_set_that_trains_on_the_firsts_test_images_is_not_joined(tiny_data, tmp_path):
    """Also where the images are reached through a link."""
    build("market1501", tiny_data, tmp_path / "disk")
    build("msmt17-v1", tiny_data, tmp_path / "disk")
    (gallery,) = tmp_path.rglob("bounding_box_test")
    mine = tmp_path / "disk" / "mine"
    mine.mkdir()
    (mine / "images").symlink_to(gallery)
    names = sorted(path.name for path in gallery.glob("0*.jpg") if not path.name.startswith("0000"))
    rows = [f"images/{name},{name[:4]},train" for name in names[:3]]
    rows += [
        f"images/{name},1,{split}"
        for name, split in zip(names[3:5], ("query", "gallery"), strict=True)
    ]
    (mine / "table.csv").write_text("\n".join(["path,identity,split", *rows]))
    with pytest.raises(
        BadInput, match=r"folder trains on 3 images .* that are queries or gallery of market1501"
    ):
        open_dataset("market1501+folder", tmp_path / "disk")
    told = examine(tmp_path / "disk", "market1501+folder")
    assert told.code == 1
    (found,) = [each for each in told.findings if "queries or gallery" in each.message]
    assert (found.kind, found.remedy) == ("duplicate", "join sets that share no image")
    assert len(open_dataset("msmt17-v1+folder", tmp_path / "disk").train) > 3
    (mine / "images").unlink()
    (mine / "images").mkdir()
    for name in names[:5]:
        (mine / "images" / name).symlink_to(gallery / name)
    with pytest.raises(BadInput, match=r"folder trains on 3 images"):
        open_dataset("market1501+folder", tmp_path / "disk")


def test_a_table_of_ones_own_may_lie_above_a_folder_of_that_name(make):
    home = make("folder")
    (home / "folder").mkdir()
    assert open_dataset("folder", home).root == home and examine(home, "folder").code == 0


def test_an_older_matlab_file_is_told(make):
    home = make("cuhk03-mat")
    (home / "cuhk03_release" / "cuhk-03.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 500)
    with pytest.raises(BadInput, match=r"of version 5, .* save it with -v7.3"):
        prepare("cuhk03-labeled", home)


def test_views_of_other_words_become_unknown(made, tiny_data, tmp_path, own_place):
    own_place.mkdir()
    (own_place / "pedestrians").symlink_to(tiny_data)
    (own_place / "VeRi").symlink_to(made("veri776"))
    both = open_dataset("pedestrians+veri776")
    assert set(both.train.views[:64]) <= {0, 1, 2} and (both.train.views[64:] == -1).all()


def test_sets_are_found_below_the_users_own_place(made, own_place):
    own_place.mkdir()
    (own_place / "disk").symlink_to(made("market1501"))
    assert default_root("msmt17-v1") == own_place
    assert len(open_dataset("dukemtmc-reid", made("dukemtmc-reid")).train) == 64
    (own_place / "msmt17-v1").symlink_to(made("msmt17-v1"))
    assert open_dataset("msmt17-v1").root.name == "MSMT17_V1"


# Training


@pytest.mark.parametrize(
    ("layout", "name"), [("vehicleid", "vehicleid-800"), ("folder-no-cameras", "folder")]
)
def test_a_training_without_cameras(made, runs, layout, name):
    from conftest import TINY

    from reid_core import train
    from reid_core.experiment import Experiment

    def asked(**more):
        return Experiment.create(
            model="transreid",
            recipe="demo",
            settings=TINY | more,
            dataset=name,
            data=str(made(layout)),
        )

    with pytest.raises(BadInput, match="the training images have no cameras; choose another sie"):
        train.create(asked(sie="camera"))
    run = train.create(asked(sie="none"))
    train.train(run)
    assert run.status().state == "finished"
    assert run.history()[-1]["mAP"] > 0


def test_a_training_whose_queries_have_no_match_is_refused_as_the_doctor_says(
    tmp_path, tiny_data, runs, capsys
):
    from conftest import TINY

    from reid_core import train
    from reid_core.experiment import Experiment

    home = build("folder", tiny_data, tmp_path / "mine")
    table = home / "people.csv"
    table.write_text(re.sub(r"door \d", "door 1", table.read_text()))
    asked = Experiment.create(
        model="transreid",
        recipe="demo",
        settings=TINY | dict(sie="camera"),
        dataset="folder",
        data=str(home),
    )
    said = (
        "all query identities do not appear in gallery.*and all of them say camera 1.*; to do: give"
    )
    with pytest.raises(BadInput, match=said):
        train.create(asked)
    assert not list(runs.iterdir())
    assert main(["check", str(home)]) == 1
    assert "all of them say camera 1" in capsys.readouterr().out


def test_a_training_on_joined_sets_and_a_holdout(tiny_data, tmp_path, runs):
    from conftest import TINY

    from reid_core import train
    from reid_core.data import open_dataset
    from reid_core.experiment import Experiment
    from reid_core.feed import prepared

    for layout in ("market1501", "msmt17-v1"):
        build(layout, tiny_data, tmp_path / "disk")
    asked = Experiment.create(
        model="transreid",
        recipe="demo",
        settings=TINY | dict(holdout=0.2, sie="camera"),
        dataset="market1501+msmt17-v1",
        data=str(tmp_path / "disk"),
    )
    held = prepared(asked, open_dataset(asked.dataset, asked.data))
    assert held.query.identities.max() < joined.IDENTITIES <= held.train.identities.max()
    run = train.create(asked)
    assert run.facts.cameras == (1, 2, 3, 1001, 1002, 1003)
    train.train(run)
    assert run.status().state == "finished"


def test_a_table_without_a_test_split_asks_for_a_holdout(tmp_path, runs):
    from reid_core import train
    from reid_core.experiment import Experiment

    home = own(tmp_path / "mine", *ROWS[:2])
    asked = Experiment.create(model="transreid", recipe="demo", dataset="folder", data=str(home))
    with pytest.raises(BadInput, match="give holdout"):
        train.create(asked)


@pytest.mark.parametrize("separator", ";\t")
def test_a_table_with_the_separators_of_other_countries(make, separator):
    home = make("folder")
    known = open_dataset("folder", home)
    (home / "people.csv").write_text((home / "people.csv").read_text().replace(",", separator))
    assert open_dataset("folder", home).train.paths == known.train.paths


def test_numbers_that_are_none_of_ours_are_words(make):
    home = make("folder")
    table = home / "people.csv"
    table.write_text(re.sub(r"\w+ (\d+),", r"-\1,", table.read_text(), flags=re.ASCII))
    train = open_dataset("folder", home).train  # -1 is junk, other negative ones are people
    assert train.identities.min() > 0 and len(np.unique(train.identities)) > 1


def test_numbers_too_large_are_told(make):
    home = make("market1501")
    path = next((home / "query").iterdir())
    path.rename(path.with_name(f"{'9' * 30}_c1s1_000000_00.jpg"))
    assert "too large" in refused("market1501", home)


def test_one_stray_name_does_not_make_it_another_data_set(make):
    home = make("market1501")
    path = next((home / "query").iterdir())
    (home / "query" / "(copy) of one.jpg").write_bytes(path.read_bytes())
    assert [each.name for each in find(home)] == ["market1501"]


def test_lists_written_on_windows(make):
    home = make("msmt17-v1")
    known = open_dataset("msmt17-v1", home).query.paths
    table = home / "list_query.txt"
    table.write_bytes(table.read_bytes().replace(b"/", b"\\").replace(b"\n", b"\r\n"))
    assert open_dataset("msmt17-v1", home).query.paths == known


def test_a_damaged_list_of_viewpoints_is_told_with_its_line(make):
    home = make("veri776")
    (home / "keypoint_test.txt").write_text("x\n")
    assert "keypoint_test.txt, line 1" in refused("veri776", home)


def test_folders_in_other_capitals_are_told(make):
    home = make("veri776")
    (home / "image_test").rename(home / "Image_Test")
    assert f"{home} has Image_Test instead of image_test, and capitals count" in refused(
        "veri776", home
    )
    (home / "image_train").rename(home / "Image_Train")
    (home / "image_query").rename(home / "Image_Query")
    assert "has Image_Train, Image_Query, Image_Test instead" in refused("veri776", home)
    home = make("vehicleid")
    lists = home / "train_test_split"
    (lists / "train_list.txt").rename(lists / "Train_List.txt")
    said = "Train_List.txt instead of train_test_split/train_list.txt"
    assert said in refused("vehicleid-800", home)


def test_images_one_folder_too_deep(make):
    home = make("dukemtmc-reid")
    (home / "query").rename(home / "moved")
    (home / "query").mkdir()
    (home / "moved").rename(home / "query" / "query")
    count = len(list((home / "query" / "query").iterdir()))
    said = f"no image lies right in {home / 'query'}, but {count} in its folder query: move them up"
    assert said in refused("dukemtmc-reid", home)
    shutil.rmtree(home / "query" / "query")
    assert f"{home / 'query'} is empty" in refused("dukemtmc-reid", home)


def test_cuhk03s_protocol_is_a_download_of_its_own(make):
    home = make("cuhk03-mat")
    names = [f"cuhk03_new_protocol_config_{kind}.mat" for kind in ("labeled", "detected")]
    (home / names[0]).unlink()
    message = refused("cuhk03-labeled", home)
    assert f"needs {names[0]}, a download of its own: github.com/zhunzhong07" in message
    (home / names[1]).unlink()
    message = refused("cuhk03-detected", home)
    assert f"lacks {', '.join(names)}, no part of its archive" in message
    assert "zhunzhong07/person-re-ranking" in message and "half extracted" not in message
    with pytest.raises(
        BadInput, match=f"expected {names[0]} and {names[1]} .* download them apart"
    ):
        DATASETS["cuhk03-labeled"].read(home)


def test_a_table_with_other_columns_is_told(make):
    home = make("folder")
    table = home / "people.csv"
    table.write_text(table.read_text().replace("path,identity,camera,split", "file,id,cam,subset"))
    message = refused("folder", home)
    assert f"in {home} people.csv lacks path, identity, split (its columns are file, id" in message
    assert "half extracted" not in message


def test_a_quotation_mark_that_is_never_closed(make):
    home = make("folder")
    table = home / "people.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], lines[1], f'"{lines[2]}', *lines[3:]]))
    message = refused("folder", home)
    assert f"lines 3 to {len(lines)}, which a quotation mark makes one: no identity" in message


def test_a_table_that_names_images_in_other_capitals(make):
    home = make("folder")
    table = home / "people.csv"
    table.write_text(table.read_text().replace("train/000.jpg", "Train/000.JPG"))
    message = refused("folder", home)
    assert "1 of them are missing" in message and "mend the paths in people.csv" in message
    assert "unpack" not in message


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_what_no_folder_can_be_called(tmp_path, name):
    message = refused("market1501", tmp_path / name)
    assert message.startswith("no folder") and len(message) < 200 and "\0" not in message
