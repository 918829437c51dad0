"""Which accuracies a sweep's table has columns for."""

from cpc_lightning.report.sweep import sweep_rows


def header(**metrics):
    return sweep_rows([{"overrides": [], **metrics}])[0][2:]


def test_with_a_validation_set_the_table_has_the_selected_networks_accuracy():
    assert header(test_accuracy_best=None, test_accuracy_selected=74.5) == ["accuracy, selected on val"]


def test_webvision_has_top5_and_ilsvrc12():
    names = ["test_accuracy_best", "test_accuracy_top5_best", "ilsvrc12_accuracy_best", "ilsvrc12_accuracy_top5_best"]
    columns = ["accuracy, best", "top-5, best", "ILSVRC12, best", "ILSVRC12 top-5, best"]
    assert header(**dict.fromkeys(names, 80.0)) == columns


def test_with_prototypes_their_accuracy_as_classifiers_has_a_column():
    """A.3 compares it, 78.44 % on WebVision, with MoPro's 72.23 %."""
    assert header(test_accuracy_best=80.0, test_prototype_accuracy_best=78.44) == [
        "accuracy, best", "accuracy of prototypes, best",
    ]  # fmt: skip
    assert header(test_accuracy_best=80.0, test_prototype_accuracy_best=None) == ["accuracy, best"]


def test_what_is_tuned_on_a_validation_set_shows_its_accuracy():
    assert header(val_accuracy_best=70.0) == ["accuracy on val, best"]


def test_other_data_have_no_column_of_top5():
    assert header(test_accuracy_best=90.0, test_accuracy_top5_best=99.0) == ["accuracy, best"]
