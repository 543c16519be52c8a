"""Bad input by the command line: one message with rule, value and next step, exit code 2, no traceback."""

import pickle
import sqlite3

import numpy as np
import pytest
import torch
from PIL import Image

from nasseg.train.weights import save_weights
from tests.command_line import refused
from tests.data.test_dataset import write_camvid

SPACE = """
about: a space to spoil
parameters:
  family: [regseg, dabnet]
  width: {range: [0.25, 1.0], step: 0.25}
  decoder: {choices: [regseg, lraspp], when: {family: regseg}}
  input_injection: {choices: [false, true], when: {family: dabnet}}
forbid: [{family: regseg, width: 1.0}]
"""
STUDY = """
question: What if it is wrong?
expected: nothing
space: {space}
data: {data}
objectives: [miou, macs]
limits: {{macs: {{max: 3.0e+9}}}}
recipe: {{steps: 3, batch_size: 2}}
latency: {{min_seconds: 0.0, min_replicates: 2, warmup: 1}}
trials: 2
"""
SCENES = "{name: scenes, size: [32, 64], train: 4, val: 2}"


@pytest.fixture(autouse=True)
def a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("NASSEG_STORAGE", raising=False)


@pytest.fixture
def fails():
    return refused


def one_message(text):
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text


def write(name, text):
    with open(name, "w") as file:
        file.write(text)
    return name


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ("about", "abuot", ["space.yaml:2", "did you mean 'about'?"]),
        ("family: [regseg, dabnet]", "family: [regseg, dabnet, stcd]", ["unknown family", "did you mean 'stdc'?"]),
        ("  input_injection", "  input_injecton", ["did you mean 'input_injection'?"]),
        ("choices: [regseg, lraspp]", "choice: [regseg, lraspp]", ["space.yaml:6", "did you mean 'choices'?"]),
        ("[regseg, lraspp]", "[]", ["decoder", "one or more"]),
        ("[regseg, lraspp]", "[regseg, regseg]", ["decoder", "a choice occurs twice"]),
        ("step: 0.25", "step: 0", ["width", "a step above 0"]),
        ("step: 0.25", "step: 1.0e-9", ["width", "a whole number (up to 10,000) of steps"]),
        ("[0.25, 1.0]", "[1.0, 0.25]", ["width", "low <= high"]),
        ("[0.25, 1.0]", "[0.25, .inf]", ["width", "low <= high"]),
        ("when: {family: regseg}", "when: {famly: regseg}", ["decoder", "`when` names", "did you mean 'family'?"]),
        ("when: {family: regseg}", "when: {family: stdc}", ["decoder", "`when` family is 'stdc' never holds"]),
        ("when: {family: regseg}", "when: {family: regseg, input_injection: true}", ["decoder", "never holds"]),
        ("when: {family: regseg}", "when: {family: regseg, decoder: regseg}", ["conditions form a circle"]),
        ("{family: regseg, width: 1.0}", "{width: {min: 0}}", ["forbid", "excludes every"]),
        ("{family: regseg, width: 1.0}", "{}", ["an empty forbid clause"]),
        ("{family: regseg, width: 1.0}", "{hight: 1}", ["forbid names unknown parameter 'hight'"]),
        ("  family: [regseg, dabnet]\n", "", ["a space needs the parameter `family`"]),
        ("forbid:", "about: again\nforbid:", ["space.yaml:8", "key 'about' occurs twice"]),
        ("forbid:", "limits: {macs: {max: .nan}}\nforbid:", ["macs", "must be numbers"]),
        ("forbid:", "limits: {macs: {min: 3, max: 2}}\nforbid:", ["min at most max"]),
        ("family: [regseg, dabnet]", "family: [regseg, dabnet", ["space.yaml:", "not valid YAML"]),
        ("a space to spoil", "!!python/object/apply:os.system [true]", ["not valid YAML", "python/object"]),
    ],
)
def test_a_space_file_that_is_wrong(fails, old, new, messages):
    assert old in SPACE
    write("space.yaml", SPACE.replace(old, new))
    text = one_message(fails("spaces", "space.yaml"))
    assert [message for message in messages if message not in text] == [], text


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ("trials: 2", "trials: 2\nrecipes: x", ["study.yaml:", "did you mean 'recipe'?"]),
        ("steps: 3", "step: 3", ["study.yaml:8", "did you mean 'steps'?"]),
        ("steps: 3", "steps: 0", ["recipe.steps", "greater than or equal to 1", "got 0"]),
        ("steps: 3", "steps: 1.5", ["recipe.steps", "got 1.5"]),
        ("trials: 2", "trials: 2\nworkers: 0", ["workers", "got 0"]),
        ("trials: 2", "trials: 2\nhours: -1", ["hours", "got -1"]),
        ("trials: 2", "trials: 2\nmax_trial_minutes: 0", ["max_trial_minutes", "got 0"]),
        ("objectives: [miou, macs]", "objectives: []", ["objectives"]),
        ("objectives: [miou, macs]", "objectives: [miou, miou]", ["an objective occurs twice"]),
        ("objectives: [miou, macs]", "objectives: [miou, mac]", ["did you mean 'macs'?"]),
        ("objectives: [miou, macs]", "objectives: [miou, iou.unicorn]", ["iou.unicorn"]),
        ("limits: {macs", "limits: {mcs", ["did you mean 'macs'?"]),
        ("max: 3.0e+9", "max: 3.0e+9, min: 4.0e+9", ["min at most max"]),
        ("max: 3.0e+9", "max: many", ["limits.macs.max", "got 'many'"]),
        ("name: scenes", "name: scene", ["no data set 'scene'"]),
        ("size: [32, 64]", "sizes: [32, 64]", ["did you mean 'size'?"]),
        ("size: [32, 64]", "size: [8, 8]", ["at least 32 x 32"]),
        ("train: 4", "train: 0", ["train", "got 0"]),
        ("trials: 2", "trials: 2\nsampler: tpee", ["unknown sampler 'tpee': did you mean 'tpe'?"]),
        ("trials: 2", "trials: 2\nlatency: {device: cuda:99}", ["latency"]),
        ("warmup: 1", "warmup: 1, device: gpu", ["device must be cpu, cuda or cuda:N, got 'gpu'"]),
        ("warmup: 1", "warmup: 1, precision: fp8", ["latency.precision", "got 'fp8'"]),
        ("space: quickstart", "space: quickstrat", ["study.yaml:4", "did you mean 'quickstart'?"]),
        ("trials: 2", "trials: 2\npublished: [regsegg]", ["did you mean 'regseg'?"]),
        (
            "objectives: [miou, macs]",
            "objectives: [mine]\nfigures: {mine: {function: no.py:f, phase: cost, direction: minimize}}",
            ["study.yaml:", "no file 'no.py'"],
        ),
    ],
)
def test_a_study_file_that_is_wrong(fails, old, new, messages):
    good = STUDY.format(space="quickstart", data=SCENES)
    assert old in good
    write("study.yaml", good.replace(old, new))
    text = one_message(fails("search", "study.yaml"))
    assert [message for message in messages if message not in text] == [], text


@pytest.mark.parametrize("content", [b"", b"\x80\x81\xfe", b"- a\n- list\n", b"just text", b"\x00"])
def test_a_file_that_is_no_mapping(fails, tmp_path, content):
    (tmp_path / "study.yaml").write_bytes(content)
    assert "study.yaml" in one_message(fails("search", "study.yaml"))


def test_aliases_that_expand_without_end(fails):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    write("study.yaml", "\n".join(lines))
    assert "study.yaml" in one_message(fails("search", "study.yaml"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "quickstart", "--workers", "0"],
        ["search", "quickstart", "--trials", "-1"],
        ["search", "quickstart", "--trials", "many"],
        ["search", "quickstart", "--hours", "0"],
        ["search"],
        ["serach", "quickstart"],
        ["search", "quickstart", "--trails", "3"],
        ["sample", "regseg", "-n", "0"],
    ],
)
def test_arguments_that_no_command_takes(fails, arguments):
    assert fails(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "../elsewhere"], "unknown study '../elsewhere'"),
        (["sample", "regsge"], "did you mean 'regseg'?"),
        (["measure", "regseg", "--set", "dilations=(1,1)+oops"], "a schedule is a sum of terms"),
        (["measure", "regseg", "--set", "width=wide"], "width must be of type float, got 'wide'"),
        (["measure", "stdc", "--set", "form=clasifier"], "did you mean 'classifier'?"),
        (["measure", "regseg", "--input", "0x0"], "a size is HEIGHTxWIDTH"),
        (["measure", "tiny#x"], "no trial and no trained row 'x' of 'tiny'"),
        (["front", "nothing"], "run `nasseg search` first"),
        (["front", "nothing", "--max", "12"], "--max takes KEY=VALUE, such as latency_ms=12, got '12'"),
        (["search", "quickstart", "--remeasure", "--dry-run"], "leave out --dry-run"),
        (["reproduce", "--data", "scenes", "--dry-run"], "no table named"),
        (["reproduce", "regseg/table-4", "--seeds", "3", "--size", "64x128"], "--seeds, --size apply to training only"),
        (["reproduce", "regseg/table-4", "--data", "scenes", "--epochs", "inf", "--dry-run"], "finite and above 0"),
        (["reproduce", "regseg/table-4", "--data", "scenes", "--recipe-set", "x"], "--recipe-set takes KEY=VALUE"),
        (
            ["reproduce", "regseg/table-4", "--data", "scenes", "--format", "pdf"],
            "unknown format 'pdf': known: csv, html",
        ),
        (["reproduce", "regseg/table-4", "--data", "scenes", "-o", "."], "cannot write ."),
        (
            ["reproduce", "regseg/table-4", "--data", "scenes", "--epochs", "1", "--recipe-set", "batch_size=0"],
            "batch_size is a whole number above 0, got 0",
        ),
    ],
)
def test_values_that_do_not_exist(fails, arguments, message):
    assert message in one_message(fails(*arguments))


def spoil_missing_split(root):
    for path in (root / "val").iterdir():
        path.unlink()
    return "val"


def spoil_label_gone(root):
    (root / "trainannot/f1.png").unlink()
    return "f1"


def spoil_label_value(root):
    Image.fromarray(np.full((32, 64), 200, dtype=np.uint8)).save(root / "trainannot/f2.png")
    return "f2.png"


def spoil_label_size(root):
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(root / "valannot/f0.png")
    return "f0.png"


def spoil_truncated(root):
    path = root / "train/f0.png"
    path.write_bytes(path.read_bytes()[:60])
    return "f0.png"


SPOILS = [spoil_missing_split, spoil_label_gone, spoil_label_value, spoil_label_size, spoil_truncated]


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_data_set_that_is_broken(fails, tmp_path, spoil):
    """Found before the search or at the first training: either way the file is named, and nothing runs on."""
    named = spoil(write_camvid(tmp_path / "data", size=(32, 64)))
    write("study.yaml", STUDY.format(space="quickstart", data="{name: data}"))
    text = one_message(fails("search", "study.yaml"))
    assert named in text


def test_a_data_folder_that_is_missing_or_a_file(fails):
    write("study.yaml", STUDY.format(space="quickstart", data="{name: nowhere}"))
    assert "no data set 'nowhere'" in one_message(fails("search", "study.yaml"))
    assert "no data set 'study.yaml'" in one_message(fails("search", "study.yaml", "--data", "study.yaml"))


@pytest.mark.parametrize("storage", ["sqlite:///{}/s.db", "{}/s.log"])
def test_a_storage_that_cannot_be_written(fails, storage):
    write("study.yaml", STUDY.format(space="quickstart", data=SCENES))
    write("a-file", "")
    text = one_message(fails("search", "study.yaml", "--storage", storage.format("a-file")))
    assert "a-file" in text
    assert "--storage" in text


def test_a_storage_that_is_something_else(fails, tmp_path):
    write("study.yaml", STUDY.format(space="quickstart", data=SCENES))
    write("text.db", "this is no database, but it is long enough to look at " * 30)
    assert "cannot open storage" in one_message(fails("search", "study.yaml", "--storage", "sqlite:///text.db"))
    write("text.log", "this is no journal\n")
    assert "text.log" in one_message(fails("search", "study.yaml", "--storage", "text.log"))
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("create table studies (x integer)")
    assert "other.db" in one_message(fails("search", "study.yaml", "--storage", "sqlite:///other.db"))


def test_a_database_that_no_driver_reads(fails):
    write("study.yaml", STUDY.format(space="quickstart", data=SCENES))
    text = one_message(fails("search", "study.yaml", "--storage", "nosuchdb://me:secret@somewhere/x"))
    assert "cannot open storage nosuchdb://me:***@somewhere/x" in text


def test_weights_are_read_as_weights_only(tmp_path):
    """A file that would run code when unpickled is refused, and the code does not run."""

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "bomb.pt", weights_only=True)
    assert not (tmp_path / "exploded").exists()
    save_weights(torch.nn.Linear(2, 2), tmp_path / "good.pt")
    assert set(torch.load(tmp_path / "good.pt", weights_only=True)) == {"weight", "bias"}


def test_a_name_holds_no_at_for_that_is_what_belongs_to_a_study(tmp_path):
    (tmp_path / "x@y.yaml").write_text(STUDY.format(space="quickstart", data=SCENES))
    (tmp_path / "studies/mine").mkdir(parents=True)
    (tmp_path / "studies/mine/table-1@y.yaml").write_text("question: what?\n")
    for command in (("search", "x@y.yaml"), ("reproduce", "mine/table-1@y")):
        line = refused(*command)
        assert "holds no @, got " in line
        assert "rename the file" in line
    assert not (tmp_path / "runs").exists()
