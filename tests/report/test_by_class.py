"""What the page says of the classes."""

import numpy as np

from cpc_lightning.report.by_class import matrix


def test_matrix_of_few_classes_is_a_table_and_of_many_a_picture():
    few = matrix("t", "a", np.array([[0.75, 0.25], [0.002, 0.998]]))
    assert few.cells == [[(0.75, "75"), (0.25, "25")], [(0.002, "<1"), (0.998, "100")]]
    many = matrix("t", "a", np.eye(30))
    assert many.cells == []
    assert many.picture.startswith("data:image/png;base64,")
