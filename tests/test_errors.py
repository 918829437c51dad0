"""Words of messages."""

import pytest

from cpc_lightning.errors import InputError, count_of, one_line, require_switch


def test_a_number_and_what_it_counts():
    assert [count_of(n, "process") for n in (0, 1, 2)] == ["0 processes", "1 process", "2 processes"]
    assert count_of(1200, "error") == "1,200 errors"


def test_what_could_forge_output_is_escaped():
    assert one_line("a\nb\x1b[31m\x7f\x85\u2028\u202e\u2066\udcfc") == (r"a\nb\x1b[31m\x7f\x85\u2028\u202e\u2066\udcfc")


def test_spaces_and_joiners_of_peoples_file_names_stay():
    persian, japanese = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u5199\u771f\u30001"
    for name in ("Screenshot 3.15\u202fPM", japanese, persian, "a\xa0b", "\uf022"):
        assert one_line(name) == name


@pytest.mark.parametrize("value", [1, 0, None, "true"])
def test_a_switch_is_true_or_false(value):
    require_switch("download", True)
    require_switch("download", False)
    with pytest.raises(InputError, match=r"^download=.*: must be true or false$"):
        require_switch("download", value)
