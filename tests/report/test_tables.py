"""The classes' names and the images that were left out, whatever they are called."""

import json

from cpc_lightning.datasets.dataset import BadImage
from cpc_lightning.report.tables import write_bad_images, write_classes


def test_classes_and_bad_images(tmp_path):
    write_classes(tmp_path / "classes.json", ["a", "=1\n", "ö"])
    assert json.loads((tmp_path / "classes.json").read_text()) == ["a", "=1\n", "ö"]
    write_bad_images(tmp_path / "bad.csv", [BadImage("train", '=a",b', "is empty"), BadImage("test", "c", "x\ny")])
    assert (tmp_path / "bad.csv").read_bytes() == (b'set,path,reason\ntrain,"./=a"",b",is empty\ntest,c,x\\ny\n')
