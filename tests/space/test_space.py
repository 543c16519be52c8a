"""The search-space language: drawing, counting, conditions, schedules with holes, and errors that name the line."""

import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasseg.errors import UserError
from nasseg.schedule import format_schedule, parse_schedule
from nasseg.space import space_from_text

TWO_FAMILIES = """
about: two families
parameters:
  family: [bisenetv2, regseg]
  width: [0.25, 0.5]
  bisenetv2.depth: {range: [1, 3]}
  bisenetv2.gather: [3x3, 1x1]
  bisenetv2.depthwise: {choices: [double, single], when: {bisenetv2.gather: 3x3}}
  regseg.dilations: {template: "(1,1)+{a}*(1,{d})+{b}*(1,14)", holes: {a: {range: [0, 2]}, d: [2, 4], b: [1, 2]}}
forbid:
  - {width: 0.25, bisenetv2.depth: {min: 3}}
"""


def every_point(space):
    """All points, by brute force: each parameter takes each value or none, and what breaks a rule is dropped."""
    names = list(space.parameters)
    points = []
    for values in product(*([*space.parameters[name].values, None] for name in names)):
        params = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        active = all(parameter.active(params) == (parameter.name in params) for parameter in space.parameters.values())
        if active and space.excluded_by(params) is None:
            points.append(params)
    return points


def test_count_is_exact():
    space = space_from_text(TWO_FAMILIES, "two")
    assert space.count() == len(every_point(space)) == 2 * 3 * 3 - 3 + 2 * 3 * 2 * 2


def test_samples_are_points_and_reach_all_of_them():
    space, rng = space_from_text(TWO_FAMILIES, "two"), random.Random(0)
    drawn = [space.sample(rng) for _ in range(3000)]
    points = every_point(space)
    assert all(params in points for params in drawn)
    assert {str(sorted(p.items())) for p in drawn} == {str(sorted(p.items())) for p in points}


def test_families_are_drawn_evenly_although_one_has_forbidden_points():
    space, rng = space_from_text(TWO_FAMILIES, "two"), random.Random(1)
    share = sum(space.sample(rng)["family"] == "bisenetv2" for _ in range(4000)) / 4000
    assert abs(share - 0.5) < 0.03


def test_the_same_seed_draws_the_same():
    space = space_from_text(TWO_FAMILIES, "two")
    first, second = random.Random(7), random.Random(7)
    assert [space.sample(first) for _ in range(20)] == [space.sample(second) for _ in range(20)]


def test_settings_fill_templates_and_drop_prefixes():
    space = space_from_text(TWO_FAMILIES, "two")
    params = {
        "family": "regseg",
        "width": 0.5,
        "regseg.dilations.a": 2,
        "regseg.dilations.d": 4,
        "regseg.dilations.b": 1,
    }
    assert space.settings(params) == {"family": "regseg", "width": 0.5, "dilations": "(1,1)+2*(1,4)+(1,14)"}


def test_every_point_is_located_again():
    space = space_from_text(TWO_FAMILIES, "two")
    defaults = {"width": 1.0, "depth": 1, "gather": "3x3", "depthwise": "double", "dilations": "(1,1)"}
    for params in every_point(space):
        found = space.locate(space.settings(params), defaults)
        assert found is not None
        assert space.settings(found) == space.settings(params)


def test_what_lies_outside_is_not_located():
    space = space_from_text(TWO_FAMILIES, "two")
    defaults = {"width": 1.0, "depth": 1, "gather": "3x3", "depthwise": "double", "dilations": "(1,1)"}
    outside = [
        {"family": "regseg", "width": 0.5, "dilations": "(1,1)+(1,3)+(1,14)"},
        {"family": "regseg", "width": 0.75, "dilations": "(1,1)+(1,14)"},
        {"family": "bisenetv2", "width": 0.25, "depth": 3},
        {"family": "bisenetv2", "width": 0.25, "other": 3},
    ]
    assert [space.locate(settings, defaults) for settings in outside] == [None] * 4


schedules = st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=4).map(tuple), min_size=1, max_size=20).map(
    tuple
)


@given(schedules)
def test_schedules_round_trip(schedule):
    assert parse_schedule(format_schedule(schedule)) == schedule


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_random_spaces_count_and_sample_within_their_rules(data):
    names = ["a", "b", "c", "d"]
    lines = ["about: random", "parameters:", "  family: regseg"]
    for index, name in enumerate(names):
        values = list(range(data.draw(st.integers(1, 3))))
        gate = data.draw(st.sampled_from([None, *names[:index]]))
        when = f", when: {{{gate}: 0}}" if gate else ""
        lines.append(f"  {name}: {{choices: {values}{when}}}")
    low, high = data.draw(st.sampled_from([("a", "c"), ("b", "d"), ("a", "d")]))
    lines += ["forbid:", f"  - {{{low}: 1, {high}: {{min: 1}}}}"]
    space = space_from_text("\n".join(lines), "random")
    points = every_point(space)
    assert space.count() == len(points)
    rng = random.Random(0)
    assert all(space.sample(rng) in points for _ in range(20))


def test_a_hole_may_hold_all_rates_of_a_block():
    space = space_from_text(BLOCKS, "blocks")
    assert space.schedules("dilations") == (6, True)  # of 8 points: with n = 0, b says nothing
    defaults = {"family": "regseg", "dilations": ""}
    for params in every_point(space):
        settings = space.settings(params)
        assert space.settings(space.locate(settings, defaults)) == settings
    known = {"family": "regseg", "dilations": "(1,4)+2*(1,4,8)"}
    assert space.locate(known, defaults) == {
        "family": "regseg",
        "dilations.a": "1,4",
        "dilations.b": "1,4,8",
        "dilations.n": 2,
    }
    assert space.locate({**known, "dilations": "(1,4)+2*(1,8,4)"}, defaults) is None


BLOCKS = """\
about: x
parameters:
  family: regseg
  dilations: {template: "({a})+{n}*({b})", holes: {a: ["1,4", "2,2"], b: ["1,4", "1,4,8"], n: [0, 2]}}
"""


BAD = [
    ("about: x", "parameters"),
    ("about: x\nparameters: {width: [1]}", "family"),
    ("about: x\nparameterz: {family: regseg}", "did you mean 'parameters'"),
    ("about: x\nparameters:\n  family: regseg\n  width: []", "space.yaml:4: width"),
    ("about: x\nparameters:\n  family: regseg\n  width: [1, 1]", "occurs twice"),
    ("about: x\nparameters:\n  family: regseg\n  width: {rnge: [1, 2]}", "did you mean 'range'"),
    ("about: x\nparameters:\n  family: regseg\n  width: {range: [2, 1]}", "low <= high"),
    ("about: x\nparameters:\n  family: regseg\n  width: {range: [0.5, 1.0]}", "needs a step"),
    ("about: x\nparameters:\n  family: regseg\n  width: {range: [1, 2], step: 0}", "step above 0"),
    ("about: x\nparameters:\n  family: regseg\n  width: {range: [1, 2], step: 3}", "whole number"),
    ("about: x\nparameters:\n  family: regseg\n  width: {range: [0.25, 1.0e+308], step: 0.25}", "whole number"),
    ("about: x\nparameters:\n  family: regseg\n  width: {choices: [1], when: {widht: 1}}", "did you mean 'width'"),
    ("about: x\nparameters:\n  family: regseg\n  a: [1, 2]\n  b: {choices: [1], when: {a: 3}}", "never holds"),
    (
        "about: x\nparameters:\n  family: regseg\n  a: {choices: [1], when: {b: 1}}\n  b: {choices: [1], when: {a: 1}}",
        "circle: a -> b -> a",
    ),
    ("about: x\nparameters:\n  family: regseg\n  d: {template: '(1,{a})', holes: {b: [1]}}", "holes"),
    ("about: x\nparameters:\n  family: regseg\n  d: {template: '(1,{a})', holes: {a: [1.5]}}", "whole numbers"),
    ("about: x\nparameters:\n  family: regseg\n  d: {template: '({a})', holes: {a: ['1,4', x]}}", "a sum of terms"),
    ("about: x\nparameters:\n  family: regseg\n  d: {template: '{a}*(1,4)', holes: {a: ['1,4']}}", "alone in brackets"),
    ("about: x\nparameters:\n  family: regseg\n  d: {template: '(1;{a})', holes: {a: [1]}}", "a sum of terms"),
    ("about: x\nparameters:\n  family: regseg\nforbid: [{familly: regseg}]", "did you mean 'family'"),
    ("about: x\nparameters:\n  family: regseg\nforbid: [{}]", "excludes everything"),
    ("about: x\nparameters:\n  family: regseg\nlimits: {macs: {mx: 1}}", "min: x"),
    (
        "about: x\nparameters:\n  family: regseg\n  family: regseg",
        "space.yaml:4: not valid YAML: key 'family' occurs twice",
    ),
    ("about: [x\nparameters: 1", "space.yaml:2: not valid YAML"),
    ("- about", "a mapping"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_files_say_rule_and_place(text, message):
    with pytest.raises(UserError) as error:
        space_from_text(text, "space")
    assert message in str(error.value)
    assert "space.yaml" in str(error.value)
    assert "\n" not in str(error.value)


WITH_A_RECIPE = """
about: networks, and how they are trained
parameters:
  family: [bisenetv2, regseg]
  width: [0.25, 0.5]
  recipe.ohem: {choices: {none: null, hard: {loss_above: 0.5}}}
  recipe.learning_rate: {choices: [0.01, 0.1], when: {recipe.ohem: hard}}
  regseg.recipe.crop_size: {choices: {small: [8, 16], large: [16, 32]}}
forbid:
  - {width: 0.25, recipe.ohem: hard}
"""


def test_a_recipes_settings_are_no_part_of_the_network():
    space = space_from_text(WITH_A_RECIPE, "both")
    assert space.count() == len(every_point(space)) == (1 + 3) * (1 + 2)
    point = {
        "family": "regseg",
        "width": 0.5,
        "recipe.ohem": "hard",
        "recipe.learning_rate": 0.1,
        "regseg.recipe.crop_size": "large",
    }
    assert space.settings(point) == {"family": "regseg", "width": 0.5}
    training = {name: value for name, value in point.items() if "recipe" in name}
    assert space.training_of(point) == training
    assert space.recipe_settings(training) == {
        "ohem": {"loss_above": 0.5},
        "learning_rate": 0.1,
        "crop_size": [16, 32],
    }
    found = space.locate({"family": "regseg", "width": 0.5}, {"width": 1.0}, training)
    assert found == point
    first = space.locate({"family": "regseg", "width": 0.5}, {"width": 1.0})
    assert first == {"family": "regseg", "width": 0.5, "recipe.ohem": "none", "regseg.recipe.crop_size": "small"}
    assert space.locate({"family": "regseg", "width": 0.5}, {}, {"recipe.ohem": "harder"}) is None
