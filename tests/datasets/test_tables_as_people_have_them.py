"""Tables from spreadsheets and data frames, and a run's own labels.csv that becomes a table again."""

import csv
import gzip

import pytest
import torch
from tests.datasets.image_trees import save_jpeg, save_text, write_folders

from cpc_lightning.datasets.image_table import image_table
from cpc_lightning.datasets.reading.class_names import in_order, says_nothing, whole_number
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.errors import InputError
from cpc_lightning.report.labels import LabelReport

CROP = Crop(8, 8)


def opened(file, *rows, **more):
    """The table of these rows, each image of which there is; none is set aside but the last two rows'."""
    if rows:
        save_text(file, "\n".join(rows) + "\n")
    return image_table(str(file), CROP, **{"test_share": 0.2, **more})


def by_path(data):
    """Name of the given class of each image."""
    splits = (data.train, data.evaluation["test"])
    return {
        path: data.class_names[label]
        for split in splits
        for path, label in zip(split.paths, split.labels.tolist(), strict=True)
    }


@pytest.fixture
def images(tmp_path):
    """x/0.jpg to x/23.jpg."""
    write_folders(tmp_path, {"x": 24})
    return tmp_path


# Numbers -------------------------------------------------------------------------------------------------------------


def test_what_is_a_whole_number():
    texts = ["3", "3.0", "3.", "+3", "03", "3e0", "3.000000000000000000e+00", "-0.0", "3.5", "1_0", "x", "٣", "1e9", ""]
    assert [whole_number(text) for text in texts] == [3, 3, 3, 3, 3, 3, 3, 0, None, None, None, None, None, None]


def test_what_says_that_there_is_no_label():
    texts = ["-1", "-1.0", "-2", "nan", "NaN", "", "<NA>", "-0.5", "0", "-0", "NA", "none", "-a", "-"]
    assert [text for text in texts if says_nothing(text)] == ["-1", "-1.0", "-2", "nan", "NaN", "", "<NA>", "-0.5"]


def test_numbers_are_in_the_order_of_numbers():
    assert in_order(["10", "9", "1"]) == ["1", "9", "10"]
    assert in_order(["10.5", "9", "1e1"]) == ["9", "1e1", "10.5"]
    assert in_order(["10", "9", "a"]) == ["10", "9", "a"]


@pytest.mark.parametrize("write", [lambda k: f"{k}.0", lambda k: str(k) if k % 2 else f"{k}.0", lambda k: f"{k:.18e}"])
def test_whole_floats_are_integers(images, write):
    """A data frame writes a column of integers with one blank as 0.0, 1.0, ..., 10.0; numpy writes 1.0e+01."""
    data = opened(images / "t.csv", "path,label", *(f"x/{n}.jpg,{write(n % 11)}" for n in range(22)))
    assert data.class_names == tuple(map(str, range(11)))
    assert by_path(data) == {f"x/{n}.jpg": str(n % 11) for n in range(22)}
    assert [int(path[2:-4]) % 11 for path in data.train.paths] == data.train.labels.tolist()


@pytest.mark.parametrize("stray", ["inf", "Infinity", "1e30", "1e400", "1000000000"])
@pytest.mark.parametrize("column", ["label", "true_label"])
def test_a_number_that_can_be_no_class_is_refused_in_one_line(images, stray, column):
    rows = [(str(n % 3), stray) if n == 7 and column == "true_label" else (stray if n == 7 else str(n % 3), str(n % 3))
            for n in range(12)]  # fmt: skip
    with pytest.raises(InputError) as error:
        opened(images / "t.csv", "path,label,true_label", *(f"x/{n}.jpg,{a},{b}" for n, (a, b) in enumerate(rows)))
    assert f"t.csv: line 9: {column} is '{stray}', where the others are numbers of classes" in str(error.value)


@pytest.mark.parametrize("names", [("4006381333931", "12345678", "96385074"), ("inf", "cat", "0"), ("0", "0.5", "2")])
def test_barcodes_words_and_fractions_stay_names(images, names):
    data = opened(images / "t.csv", "path,label", *(f"x/{n}.jpg,{names[n % 3]}" for n in range(12)))
    assert by_path(data) == {f"x/{n}.jpg": names[n % 3] for n in range(12)}


def test_fractions_are_names_in_their_order(images):
    sizes = ("0.5", "10.5", "2")
    data = opened(images / "t.csv", "path,label", *(f"x/{n}.jpg,{sizes[n % 3]}" for n in range(9)))
    assert data.class_names == ("0.5", "2", "10.5")


@pytest.mark.parametrize("nothing", ["-1", "-1.0", "nan", "", "-100", "NaN"])
@pytest.mark.parametrize("names", [("0", "1", "2"), ("cat", "dog", "owl")])
def test_rows_that_are_not_labeled_are_refused_in_one_line(images, nothing, names):
    rows = [f"x/{n}.jpg,{names[n % 3] if n < 9 else nothing}" for n in range(12)]
    says = f"is '{nothing}', which says 'not labeled'" if nothing else "is blank"
    with pytest.raises(InputError) as error:
        opened(images / "t.csv", "path,label", *rows)
    assert f"t.csv: line 11: label {says} (in 3 rows)" in str(error.value)


def test_true_labels_that_are_not_known(images):
    truth = ("0", "-1", "nan", "", "1.0", "none")
    data = opened(
        images / "t.csv", "path,label,true_label,split",
        *(f"x/{n}.jpg,{n % 2},{truth[n % 6]},{'test' if n > 11 else ''}" for n in range(14)),
    )  # fmt: skip
    assert data.class_names == ("0", "1")
    assert data.train.true_labels.tolist() == [0, -1, -1, -1, 1, -2] * 2
    assert data.evaluation["test"].labels.tolist() == [0, 1]


# Names ---------------------------------------------------------------------------------------------------------------


def test_labels_equal_but_for_case_blanks_or_unicode_form(images):
    names = ("cat", "Cat", "CAT ", "t shirt", "t  shirt", "Müll", "Mu\u0308ll", "owl")
    (line,) = opened(images / "t.csv", "path,label", *(f"x/{n}.jpg,{names[n % 8]}" for n in range(24))).remarks
    assert "'CAT' and 'Cat' and 'cat'" in line
    assert "'t  shirt' and 't shirt'" in line
    assert "'Mu\u0308ll' and 'Müll'" in line
    assert "owl" not in line


def test_a_class_that_may_mean_not_labeled(images):
    (line,) = opened(
        images / "t.csv", "path,label", *(f"x/{n}.jpg,{('a', 'b', 'N/A')[n % 3]}" for n in range(24))
    ).remarks
    assert line == "a class is called 'N/A'; if that means 'not labeled', leave those labels blank"


@pytest.mark.parametrize(
    ("given", "true"),
    [(("cat", "dog"), ("0", "1")), (("0", "1"), ("cat", "dog")), (("cat", "dog"), ("chat", "chien")),
     (("Cat", "Dog"), ("cat", "dog"))],
)  # fmt: skip
def test_one_class_by_two_names_is_refused(images, given, true):
    rows = [f"x/{n}.jpg,{given[n % 2]},{true[n % 2]}" for n in range(12)]
    with pytest.raises(InputError) as error:
        opened(images / "t.csv", "path,label,true_label", *rows)
    expected = f"label says {', '.join(given)} where true_label says {', '.join(true)}: is that one class by two names?"
    assert expected in str(error.value)


def test_a_true_class_that_nothing_is_labeled_is_one(images):
    rows = [f"x/{n}.jpg,{('a', 'b')[n % 2]},{'c' if n == 3 else ''}" for n in range(12)]
    assert opened(images / "t.csv", "path,label,true_label", *rows).class_names == ("a", "b", "c")


# A run's own labels.csv ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(images):
    """labels.csv of a run on a table of 9 images, three classes, where image 0 is wrongly labeled; and its config."""
    folder = images / "run"
    folder.mkdir()
    true = torch.arange(9) % 3
    given = true.clone()
    given[0] = 2
    LabelReport(
        given, true, torch.full((2, 9), 0.9), 0.5, true, torch.full((9,), 0.8), ("cat", "dog", "owl"),
        [f"./x/{n}.jpg" for n in range(9)], torch.arange(2, 11),
    ).write(folder / "labels.csv")  # fmt: skip
    target = "cpc_lightning.datasets.image_table.image_table"
    save_text(folder / "config.yaml", f"dataset:\n  _target_: {target}\n  file: sub/t.csv\n  root: null\n")
    save_text(folder / ".hydra/hydra.yaml", f"hydra:\n  runtime:\n    cwd: {images}\n")
    (images / "sub").symlink_to(images)
    return folder


def test_labels_csv_is_a_table(run):
    data = opened(run / "labels.csv")
    assert data.class_names == ("cat", "dog", "owl")
    assert by_path(data) == {f"./x/{n}.jpg": ("cat", "dog", "owl")[n % 3] for n in range(9)} | {
        "./x/0.jpg": "owl" if "./x/0.jpg" in data.train.paths else "cat"
    }
    assert data.train.true_labels.tolist() == [int(path[4:-4]) % 3 for path in data.train.paths]


def test_a_root_that_is_given_comes_first(run, images):
    with pytest.raises(InputError, match=r"cannot be read.*\(is not there\)"):
        opened(run / "labels.csv", root=str(images / "run"))


@pytest.mark.parametrize(
    ("rename", "truth"),
    [("noisy_class", "true_class"), ("suggested_class", "true_class"), ("noisy_label", "true_label"),
     ("suggested_label", "true_label")],
)  # fmt: skip
def test_cleaned_tables_that_people_make_of_it(run, images, rename, truth):
    """By renaming one column, all others kept; by taking two."""
    with (run / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    whole = [{("label" if name == rename else name): cell for name, cell in row.items()} for row in rows]
    short = [{"path": row["path"], "label": row[rename], "true_label": row[truth]} for row in rows]
    for table in (whole, short):
        with (images / "clean.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(table)
        data = opened(images / "clean.csv")
        assert data.class_names == (("cat", "dog", "owl") if rename.endswith("class") else ("0", "1", "2"))
        assert data.train.true_labels.tolist() == [int(path[4:-4]) % 3 for path in data.train.paths]
        assert (data.train.labels != data.train.true_labels).sum() == (
            rename.startswith("noisy") and "./x/0.jpg" in data.train.paths
        )


def test_of_two_columns_of_truth_the_one_that_speaks_as_label_does(images):
    """Folders 1, 2 and 3 are classes 0, 1 and 2: numbers in all columns, and 1 and 2 in both manners."""
    rows = [f"x/{n}.jpg,{n % 3},{n % 3 + 1},{n % 3}" for n in range(12)]
    data = opened(images / "t.csv", "path,label,true_class,true_label", *rows)
    assert data.class_names == ("0", "1", "2")
    assert torch.equal(data.train.true_labels, data.train.labels)


def test_the_unsuspected_rows_alone_with_classes_that_are_numbers(images):
    """Folders called 3 and 7: in labels.csv they are classes 0 and 1, and their names stay names."""
    folders = [f"{('3', '7')[n % 2]},{n % 2},{('3', '7')[n % 2]},x/{n}.jpg" for n in range(8)]
    data = opened(images / "t.csv", "noisy_class,noisy_label,true_class,path", *folders)
    assert data.class_names == ("3", "7")
    assert data.train.labels.tolist() == [int(path[2:-4]) % 2 for path in data.train.paths]


@pytest.mark.parametrize("parts", [False, True])
def test_labels_csv_of_a_run_on_folders(tmp_path, monkeypatch, parts):
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "d" / ("train" if parts else ""), {"a": 5, "b": 5})
    target = "cpc_lightning.datasets.image_folder.image_folder"
    save_text(tmp_path / "run/config.yaml", f"dataset:\n  _target_: {target}\n  root: d\n")
    rows = [f"{('a', 'b')[n // 5]}/{n}.jpg,{('a', 'b')[n // 5]}" for n in range(10)]
    assert len(by_path(opened(tmp_path / "run/labels.csv", "path,noisy_class", *rows))) == 10


# Encodings -----------------------------------------------------------------------------------------------------------


def test_a_table_that_is_not_utf_8_says_so_with_the_line(images):
    rows = ["path,label", "x/0.jpg,Glas", "x/1.jpg,Müll", "x/2.jpg,Glas", "x/3.jpg,Müll", ""]
    file = images / "t.csv"
    file.write_bytes("\r\n".join(rows).encode("cp1252"))
    with pytest.raises(InputError) as error:
        opened(file)
    assert str(error.value) == (
        f"file={file}: line 3 is not UTF-8 (byte 0xfc after 'x/1.jpg,M'): dataset.encoding=cp1252 for a table from "
        "Windows, or save it as UTF-8"
    )
    for name in ("cp1252", "latin-1", "Windows-1252"):
        assert opened(file, encoding=name, test_share=0.5).class_names == ("Glas", "Müll")
    with pytest.raises(InputError, match=r"^encoding=ascii: line 3 of .*t.csv is not of this encoding \(byte 0xfc"):
        opened(file, encoding="ascii")


def test_an_error_far_down_is_found(images):
    rows = ["path,label", *(f"x/{n % 24}.jpg,a{'b' * 60}" for n in range(2000))]
    (images / "t.csv").write_bytes("\n".join(rows).encode() + b"\nx/1.jpg,\xff\n")
    with pytest.raises(InputError, match="line 2002 is not UTF-8"):
        opened(images / "t.csv")


def test_utf_16(images):
    content = "path,label\n" + "".join(f"x/{n}.jpg,{'äö'[n % 2]}\n" for n in range(8))
    (images / "t.csv").write_text(content, encoding="utf-16")
    with pytest.raises(InputError, match=r"line 1 is not UTF-8: the text is UTF-16; dataset.encoding=utf-16"):
        opened(images / "t.csv")
    assert opened(images / "t.csv", encoding="utf-16").class_names == ("ä", "ö")
    (images / "t.csv").write_text(content, encoding="utf-8-sig")
    for encoding in (None, "utf-8", "UTF8"):
        assert opened(images / "t.csv", encoding=encoding).class_names == ("ä", "ö")


@pytest.mark.parametrize("encoding", ["klingon", "hex", "", 7, "utf\0"])
def test_an_encoding_that_there_is_not(images, encoding):
    with pytest.raises(InputError) as error:
        opened(images / "t.csv", "path,label", "x/0.jpg,a", encoding=encoding)
    assert error.value.setting == "encoding"


def test_names_of_files_in_the_tables_encoding(images):
    """A file whose name is in UTF-8, and one that an old archive left in cp1252."""
    save_jpeg(images / "Tür.jpg", 1)
    (images / "x/3.jpg").rename(images / "x" / "T\udcfcr.jpg")
    rows = ["path,label", "Tür.jpg,a", "x/Tür.jpg,b", "x/1.jpg,a", "x/2.jpg,b"]
    (images / "t.csv").write_text("\n".join(rows), encoding="cp1252")
    data = opened(images / "t.csv", encoding="cp1252", test_share=0.4)
    assert sorted(by_path(data)) == ["Tür.jpg", "x/1.jpg", "x/2.jpg", "x/Tür.jpg"]


# Paths ---------------------------------------------------------------------------------------------------------------


def test_paths_stay_as_they_are_written_and_rows_are_lines(images):
    written = ["./x/0.jpg", f"{images}/x/1.jpg", "x//2.jpg", "x/3.jpg"]
    data = opened(images / "t.csv", "path,label,split", f"{written[0]},a,", "", f"{written[1]},b,",
                  f"{written[2]},a,test", f"{written[3]},b,")  # fmt: skip
    assert list(data.train.paths) == [written[0], written[1], written[3]]
    assert data.train.rows.tolist() == [2, 4, 6]
    assert list(data.evaluation["test"].paths) == [written[2]]
    assert [list(split.images.paths) for split in (data.train, data.evaluation["test"])] == [
        ["x/0.jpg", "x/1.jpg", "x/3.jpg"], ["x/2.jpg"]
    ]  # fmt: skip


def test_rows_stay_with_their_images_where_some_cannot_be_read(images):
    (images / "x/1.jpg").write_bytes(b"")
    rows = [f"./x/{n}.jpg,{'ab'[n % 2]},{'test' if n > 7 else ''}" for n in range(10)]
    data = opened(images / "t.csv", "path,label,split", *rows, on_bad_image="skip")
    assert data.train.rows.tolist() == [2, 4, 5, 6, 7, 8, 9]
    assert [bad.path for bad in data.left_out] == ["./x/1.jpg"]


def test_absolute_paths_elsewhere_say_that_a_root_helps(images):
    (images / "lists").mkdir()
    rows = ["path,label", *(f"{images}/x/{n}.jpg,{'ab'[n % 2]}" for n in range(8))]
    with pytest.raises(
        InputError, match=r"line 2: path .* leads out of .*lists: dataset.root=/ takes any absolute path"
    ):
        opened(images / "lists/t.csv", *rows)
    for root in ("/", str(images), str(images.parent)):
        assert len(by_path(opened(images / "lists/t.csv", *rows, root=root))) == 8


@pytest.mark.parametrize(("root", "path"), [("link", "real"), ("real", "link"), ("link/x", "real/x")])
def test_a_linked_root_is_no_escape(tmp_path, root, path):
    write_folders(tmp_path / "real", {"x": 8})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    end = "" if path.endswith("x") else "/x"
    rows = ["path,label", *(f"{tmp_path}/{path}{end}/{n}.jpg,{'ab'[n % 2]}" for n in range(8))]
    data = opened(tmp_path / "t.csv", *rows, root=str(tmp_path / root))
    assert sorted(by_path(data)) == sorted(row.split(",")[0] for row in rows[1:])


def test_what_leads_out_through_a_link_to_elsewhere_is_refused(tmp_path):
    write_folders(tmp_path, {"x": 2, "other": 2})
    rows = ["path,label", f"{tmp_path}/x/0.jpg,a", f"{tmp_path}/x/../other/2.jpg,b"]
    with pytest.raises(InputError, match=r"line 3: .*leads out of"):
        opened(tmp_path / "t.csv", *rows, root=str(tmp_path / "x"))


def test_an_address_is_no_path(images):
    with pytest.raises(InputError, match=r"line 2: path 'https://example.org/a.png' is an address: fetch the images"):
        opened(images / "t.csv", "path,label", "https://example.org/a.png,a", "x/1.jpg,b")


def test_rows_of_a_nas_are_left_out_and_said(images):
    rows = [f"x/{n}.jpg,{'ab'[n % 2]}" for n in range(8)] + ["x/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg,a", "x/._1.jpg,b"]
    data = opened(images / "t.csv", "path,label", *rows)
    assert len(by_path(data)) == 8
    assert data.remarks == (
        "left out: 2 rows of what a NAS or a file manager added; "
        "the first: x/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
    )  # fmt: skip


# Rows without a label, and labels that are confirmed ------------------------------------------------------------------


@pytest.mark.parametrize("nothing", ["-1", "nan", ""])
def test_rows_without_a_label_are_used_where_asked_for(images, nothing):
    rows = [f"x/{n}.jpg,{n % 3 if n < 15 else nothing}" for n in range(24)]
    data = opened(images / "t.csv", "path,label", *rows, unlabeled="use", test_share=0.2)
    assert data.class_names == ("0", "1", "2")
    given = dict(zip(data.train.paths, data.train.labels.tolist(), strict=True))
    assert [given[f"x/{n}.jpg"] for n in range(15, 24)] == [-1] * 9
    assert sorted(data.evaluation["test"].labels.tolist()) == [0, 1, 2]  # a fifth of five each; none without a label
    assert data.remarks == (
        "9 of 21 images to train on have no label: stage 2 learns from them without one where semisup.lambda_u is "
        "above 0, and each gets a suggestion",
    )  # fmt: skip


def test_what_rows_without_a_label_can_get_wrong(images):
    for rows, says, more in (
        (["x/0.jpg,a,", "x/1.jpg,b,", "x/2.jpg,,test"], "line 4: split is test, and there is neither a label nor", {}),
        (["x/0.jpg,,", "x/1.jpg,,"], "holds no label", {}),
        (["x/0.jpg,a,", "x/1.jpg,b,"], "unlabeled=yes: must be one of error, use", {"unlabeled": "yes"}),
    ):
        with pytest.raises(InputError, match=says):
            opened(images / "t.csv", "path,label,split", *rows, **{"unlabeled": "use", **more})


def test_labels_that_a_person_has_confirmed(images):
    words = ("true", "", "yes", "False", "1", "0", "TRUE", "no")
    rows = [f"x/{n}.jpg,{'ab'[n % 2]},{words[n % 8]},{'test' if n > 15 else ''}" for n in range(18)]
    data = opened(images / "t.csv", "path,label,trusted,split", *rows)
    assert data.train.trusted.tolist() == [True, False, True, False, True, False, True, False] * 2
    assert data.remarks == ("8 of 16 labels to train on are trusted: never suspected",)
    assert opened(images / "u.csv", "path,label", *(",".join(row.split(",")[:2]) for row in rows)).train.trusted is None
    with pytest.raises(InputError, match="line 3: trusted is 'maybe'; it must be true, false or blank"):
        opened(images / "t.csv", "path,label,trusted", "x/0.jpg,a,", "x/1.jpg,b,maybe")
    with pytest.raises(InputError, match="line 3: trusted is true, and there is no label"):
        opened(images / "t.csv", "path,label,trusted", "x/0.jpg,a,", "x/1.jpg,,1", "x/2.jpg,b,", unlabeled="use")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"PK\x03\x04\x14\x00\x06\x00\x08\xb5",
            "a zip archive, which an Excel workbook (.xlsx) is too: save it as csv, UTF-8",
        ),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook (.xls): save it as csv, UTF-8"),
        (gzip.compress(b"path,label\n" * 40, mtime=0), "compressed (gzip): unpack it"),
        (b"PAR1\x15\x04\x15\x80", "a Parquet file: write it as csv"),
    ],
)
def test_another_file_that_is_given_for_a_table(images, content, says):
    """Its first bytes say what it is: cp1252, which reads any bytes, would be bad advice."""
    (images / "t.csv").write_bytes(content)
    with pytest.raises(InputError) as error:
        opened(images / "t.csv")
    assert str(error.value) == f"file={images / 't.csv'}: is no csv but {says}"


def test_paths_from_windows_say_so(images):
    """On Windows they are read; here a backslash may stand in a name."""
    rows = ["path,label", *(f"x\\{n}.jpg,c{n % 2}" for n in range(4))]
    (images / "t.csv").write_text("\n".join(rows))
    with pytest.raises(InputError) as error:
        opened(images / "t.csv")
    assert str(error.value).endswith("; \\ in their names is no separator here: write /; skip leaves them out")
    (images / "t.csv").write_text("\n".join([*rows, "x/gone.jpg,c1"]))
    with pytest.raises(InputError) as error:
        opened(images / "t.csv")
    assert "separator" not in str(error.value)
