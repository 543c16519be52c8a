"""Every form in which people have their data: init and load_data read what is right."""

import numpy as np
import pytest

from nasseg.data.check.check_data import check_data
from nasseg.data.dataset import find_folder, load_data
from nasseg.data.init import study
from nasseg.data.init.begin import begin
from nasseg.data.init.machine import Machine
from tests.data import imitations

# Shapes are drawn by COCO's rule for edges, and lossy masks lose a little there.
MOSTLY = 0.985


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "measure_machine", lambda *_: Machine("cpu", 2, (8.0, 12.0, 20.0), 0.25))


@pytest.mark.parametrize("form", imitations.FORMS)
def test_a_form_is_read_right(form, tmp_path):
    root = tmp_path / "data"
    truth = imitations.FORMS[form](root)
    begun = begin(root, name="mine")
    data, found = load_data("mine"), check_data("mine")
    told = "\n".join(begun.found)
    assert found.usable, (found.faults, told)
    assert dict(data.counts) == truth.splits, told
    if truth.names:
        assert data.classes == truth.names, told
    classes = {number for label in truth.labels.values() for number in label.ravel()} - {255}
    assert len(data.classes) == len(classes), told
    folder = find_folder("mine")[0]
    for split, samples in folder.samples.items():
        for number, sample in enumerate(samples):
            right = truth.labels[sample.image.relative_to(root).as_posix()]
            read = np.asarray(data.split(split).labels[number])
            assert read.shape == right.shape
            assert (read == right).mean() > MOSTLY, (sample, told)
