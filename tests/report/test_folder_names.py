"""Names that every file system takes, whatever a class is called."""

import pytest

from cpc_lightning.report.folder_names import Names, folder_names, plain_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cat"),
        ("sea lion, old", "sea lion, old"),
        ("a/b\\c", "a_b_c"),
        ("..", "_"),
        (".git", "_git"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("what? ", "what_"),
        ("end. .", "end"),
        ("a\nb\x1b[31m", "a_b_[31m"),
        ("", "_"),
        ("lost+found", "_lost+found"),
        ("@eaDir", "_@eaDir"),
        ("bad\udcff", "bad_"),
        ("e\u0301", "\u00e9"),  # one name on a Mac and on Linux
        ("x" * 300, "x" * 120),
        ("\u00e9" * 100, "\u00e9" * 60),
    ],
)
def test_a_plain_name(name, expected):
    assert plain_name(name) == expected


def test_no_two_classes_share_a_folder():
    assert folder_names(["Cat", "cat", "a/b", "a?b", "cat_1"]) == ["Cat", "cat_1", "a_b", "a_b_3", "cat_1_4"]


def test_files_of_one_name_in_one_folder():
    names = Names()
    given = [
        names.free("1.jpg", "_7"),
        names.free("1.JPG", "_8"),
        names.free("1_8.jpg", "_9"),
        names.free("2.jpg", "_9"),
    ]
    assert given == ["1.jpg", "1_8.JPG", "1_8_9.jpg", "2.jpg"]
