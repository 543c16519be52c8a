"""Check that a study is refused before anything runs, and for what."""

from pathlib import Path

import pytest

from nasseg.errors import UserError
from nasseg.files import parse_yaml
from nasseg.study.context import make_context
from nasseg.study.study_file import study_from

STUDY = """\
question: q
expected: e
space: quickstart
data: {name: scenes, size: [32, 64], train: 2, val: 1}
objectives: [miou]
recipe: dabnet-cityscapes
"""


def test_weights_of_other_classes_are_refused_before_the_search() -> None:
    study = study_from(parse_yaml(STUDY, Path("x.yaml")), "x")
    with pytest.raises(
        UserError, match="class_weights has 19 values, but scenes has 10 classes: give one for each class"
    ):
        make_context(study, study.file.data)
