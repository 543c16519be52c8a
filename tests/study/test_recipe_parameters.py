"""Parameters of a space that set fields of the recipe: what is refused, and that a study's identity covers them."""

import pytest

from nasseg.errors import UserError
from nasseg.study.context import identity
from nasseg.study.recipe_parameters import settings_of
from nasseg.study.search.run_study import prepare
from nasseg.study.study_file import load_study
from tests.command_line import nasseg, refused
from tests.study.fakes import make_context

SPACE = """
about: one network, trained in several ways
parameters:
  family: bisenetv2
  branches: [both, detail]
  width: 0.25
"""
STUDY = """
question: How is it trained best?
expected: seconds
space: mine.yaml
data: {name: scenes, size: [32, 64], train: 4, val: 2}
objectives: [miou, macs]
recipe: {steps: 4, batch_size: 2}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Write a study whose space has these further lines, and load it."""
    monkeypatch.chdir(tmp_path)

    def write(*lines, recipe=""):
        (tmp_path / "mine.yaml").write_text(SPACE + "".join(f"  {line}\n" for line in lines))
        (tmp_path / "s.yaml").write_text(STUDY.replace("size: 2}", f"size: 2{recipe}}}"))
        return load_study("s.yaml")

    return write


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("recipe.crop_sise: {choices: {a: [8, 8]}}", "a field of the recipe.* 'crop_sise': did you mean 'crop_size'"),
        ("recipe.steps: [2, 4]", "recipe.steps: steps must be the same for all trainings of a study"),
        ("recipe.learning_rate: [0.1, -1.0]", "recipe.learning_rate = -1.0: recipe: learning_rate: .* greater than 0"),
        ("recipe.crop_size: [16, 32]", "crop_size: .*, got 32; give lists and mappings a name: {choices: {NAME: VALUE"),
        ("recipe.crop_size: [[16, 32]]", "choices are one or more numbers, .*; give lists and mappings a name"),
        ("recipe.accumulation: [1, 2, 3]", "recipe.accumulation = 3: recipe: batch_size must be divisible"),
        ("recipe.heads: {choices: {a: [{kind: boost, features: [s3]}]}}", "recipe.heads = a: recipe: heads.0: "),
        ("width.a: {choices: {a: 0.25}}", "width.a: only parameters of the recipe .* may name their choices"),
        ("recipe.flip: {template: '{a}*(1)', holes: {a: [1, 2]}}", "recipe.flip: a recipe has no dilation schedules"),
    ],
)
def test_a_study_refuses_what_its_recipe_would(study, line, said):
    with pytest.raises(UserError, match=said):
        study(line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("recipe.crop_size: {choices: {whole: [32, 64], a: [32, 96]}}", "a crop of 32 x 96 is larger than the images"),
        ("recipe.class_weights: {choices: {a: [1.0, 2.0]}}", "recipe.class_weights = a: class_weights has 2 values"),
        ("recipe.pseudo: [0.5]", "recipe.pseudo = 0.5: the recipe draws a share of each step from pseudo-labelled"),
        (
            "recipe.heads: {choices: {a: [{kind: booster, features: [s33]}]}}",
            "recipe.heads = a: unknown feature for booster head 's33'",
        ),
    ],
)
def test_a_search_refuses_what_the_data_or_the_networks_would(study, line, said):
    with pytest.raises(UserError, match=said):
        prepare(study(line), None, 0)
    assert refused("search", "s.yaml", "--dry-run").count("\n") == 1


def test_a_feature_that_some_networks_lack_is_not_refused(study):
    prepare(study("recipe.heads: {choices: {a: [{kind: booster, features: [s3]}]}}"), None, 0)  # not of detail alone


def test_a_combination_is_checked_as_it_is_drawn(study):
    lines = ("recipe.warmup_curve: {choices: {line: null, exponential: exponential}}", "recipe.warmup_from: [0.1, 0.2]")
    study(*lines)  # the recipe's own warmup_from, which is none, never stands beside it
    with pytest.raises(UserError, match="warmup_curve = exponential: recipe: an exponential warm-up needs"):
        study(lines[0])


def test_the_identity_covers_what_names_stand_for(study):
    def of(line):
        found = study(line)
        return identity(found, make_context(found))["space"]

    first = of("recipe.ohem: {choices: {hard: {probability_below: 0.7}}}")
    assert first == of("recipe.ohem: {choices: {hard: {probability_below: 0.7}}}")
    assert first != of("recipe.ohem: {choices: {hard: {probability_below: 0.6}}}")


def test_a_family_may_have_choices_of_its_own():
    heads = [{"kind": "detail", "feature": "stage3"}]
    text = SPACE.replace("bisenetv2", "[bisenetv2, stdc]").replace("branches", "bisenetv2.branches")
    text += f"  stdc.recipe.heads: {{choices: {{a: {heads}}}}}\n  recipe.learning_rate: [0.1]\n"
    assert settings_of(text, {"stdc.recipe.heads": "a", "recipe.learning_rate": 0.1}) == {
        "heads": heads,
        "learning_rate": 0.1,
    }
    assert settings_of("", {}) == {}


def test_the_commands_of_spaces_show_them(tmp_path):
    shown = nasseg("spaces", "stdc-training", cwd=tmp_path).stdout
    assert 'recipe.heads = 2x 1x: heads [{"kind": "auxiliary"' in shown
    assert "stdc2-seg50" in shown
    assert "recipe.heads=" in nasseg("sample", "stdc-training", "-n", "1", cwd=tmp_path).stdout
