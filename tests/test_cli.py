"""The command line: what each command prints, writes and refuses."""

import json
import runpy
from unittest import mock

import pytest

from nasseg.words import duration
from tests.command_line import nasseg, refused

TINY_STUDY = """
question: Does it run?
expected: seconds
space: {space}
data: {{name: scenes, size: [32, 64], train: 16, val: 8}}
objectives: [miou, macs, latency_ms]
limits: {{macs: {{max: 3.0e+7}}}}
recipe: {{steps: 3, batch_size: 2}}
latency: {{min_seconds: 0.0, min_replicates: 2, warmup: 1}}
trials: 3
workers: {workers}
price_per_hour: 36000
"""


def fails(*arguments, cwd, **environment):
    line = refused(*arguments, cwd=cwd, **environment)
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder in which a tiny study was run, and what that printed."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "tiny.yaml").write_text(TINY_STUDY.format(space="quickstart", workers=1))
    return folder, nasseg("search", "tiny.yaml", "--no-remeasure", cwd=folder).stdout


def test_the_package_is_the_command(capsys):
    with mock.patch("sys.argv", ["nasseg", "spaces"]), pytest.raises(SystemExit) as ended:
        runpy.run_module("nasseg", run_name="__main__")
    assert not ended.value.code
    assert "quickstart" in capsys.readouterr().out


def test_search_ends_with_the_front_and_the_report(searched):
    folder, output = searched
    assert "3 of 3 trained" in output
    assert "front of tiny" in output
    _, report, after = output.partition("\nreport: runs/tiny/report.html\n")
    assert report
    assert "\nnext:\n  nasseg finish tiny " in after
    assert (folder / "runs/tiny/report.html").stat().st_size > 1_000_000


@pytest.mark.slow
def test_search_resumes(searched):
    folder, _ = searched
    assert "all 3 trials are done" in nasseg("search", "tiny.yaml", cwd=folder).stdout


@pytest.mark.slow
def test_front_and_report_read_the_storage(searched, tmp_path):
    folder, _ = searched
    rows = json.loads(nasseg("front", "tiny", "--json", cwd=folder).stdout)
    assert rows
    assert {"number", "family", "miou", "macs", "latency_ms", "arch_id"} <= set(rows[0])
    url = f"sqlite:///{folder}/runs/tiny/study.db"
    done = nasseg("report", "tiny", "-o", "r.html", cwd=tmp_path, NASSEG_STORAGE=url)
    assert done.stdout == "report: r.html\n"
    assert "front of tiny" in nasseg("front", "tiny.yaml", "--storage", url, cwd=tmp_path).stdout


@pytest.mark.slow
def test_a_front_is_drawn_and_written_for_a_paper(searched):
    folder, _ = searched
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert nasseg("figure", "tiny", cwd=folder).stdout == "figure: tiny-macs-miou.pdf\n"
    assert (folder / "tiny-macs-miou.pdf").read_bytes().startswith(b"%PDF")
    done = nasseg("figure", "tiny", "--x", "latency_ms", "--wide", "-o", "a.svg", cwd=folder)
    assert done.stdout == "figure: a.svg\n"
    assert nasseg("front", "tiny", "--latex", cwd=folder).stdout.startswith("\\begin{table}\n")
    assert nasseg("front", "tiny", "--bibtex", cwd=folder).stdout.startswith("@")
    assert nasseg("front", "tiny", "--rows", cwd=folder).stdout.startswith('rows:\n  - {name: "tiny#')
    assert "choose another name with -o" in fails("figure", "tiny", "-o", "a.jpg", cwd=folder)
    assert "'maccs'" in fails("figure", "tiny", "--x", "maccs", cwd=folder)
    assert "choose one" in fails("front", "tiny", "--latex", "--json", cwd=folder)


def test_status_reads_the_storage_alone(searched):
    folder, _ = searched
    told = json.loads(nasseg("status", "tiny", "--json", cwd=folder).stdout)
    assert told["trials"]["finished"] == 3
    assert told["trials"]["rejected"] == sum(told["reasons"]["rejected"].values())
    assert told["searched_seconds"] > 0
    assert told["compute"]["money"] == pytest.approx(10 * told["searched_seconds"])
    shown = nasseg("status", "tiny", cwd=folder).stdout
    assert "3 finished" in shown
    assert f"searched for {duration(told['searched_seconds'])}; " in shown
    assert f", cost {told['compute']['money']:.2f}" in shown


@pytest.mark.slow
def test_status_and_report_tell_what_came_since_a_date(searched, tmp_path):
    folder, _ = searched
    told = json.loads(nasseg("status", "tiny", "--json", "--since", "2020-01-01", cwd=folder).stdout)
    latest, front = told["since"], json.loads(nasseg("front", "tiny", "--json", cwd=folder).stdout)
    assert latest["trials"] == sum(told["trials"].values())
    assert sorted(latest["new_front"]) == sorted(row["number"] for row in front)
    assert latest["compute"] == told["compute"]
    assert (latest["before"], latest["now"]) == (0.0, pytest.approx(told["hypervolume"]))
    shown = nasseg("status", "tiny", "--since", "2020-01-01", cwd=folder).stdout
    assert f"since 2020-01-01 00:00: {latest['trials']} trials, {len(front)} new on the front, hyper" in shown
    assert "hypervolume 0.000 -> " in shown
    assert "0 trials, 0 new on the front" in nasseg("status", "tiny", "--since", "2999-01-01", cwd=folder).stdout
    assert "a date is written as" in fails("status", "tiny", "--since", "yesterday", cwd=folder)
    page = tmp_path / "r.html"
    nasseg("report", "tiny", "--since", "2020-01-01", "-o", page, cwd=folder)
    text = page.read_text()
    assert text.index("Since 2020-01-01") < text.index('id="front"')
    assert f"{latest['compute']['money']:,.2f}" in text


@pytest.mark.slow
def test_a_trial_is_an_address(searched):
    folder, _ = searched
    rows = json.loads(nasseg("front", "tiny", "--json", cwd=folder).stdout)
    figures = json.loads(nasseg("measure", f"tiny#{rows[0]['number']}", "--json", cwd=folder).stdout)
    assert figures["arch_id"] == rows[0]["arch_id"]
    assert figures["macs"] == rows[0]["macs"]
    assert figures["input_size"] == [32, 64]
    assert "has no trial 99" in fails("measure", "tiny#99", cwd=folder)


@pytest.mark.slow
def test_another_identity_is_refused(searched, tmp_path):
    folder, _ = searched
    text = TINY_STUDY.format(space="quickstart", workers=1).replace("steps: 3", "steps: 4")
    (tmp_path / "tiny.yaml").write_text(text)
    url = f"sqlite:///{folder}/runs/tiny/study.db"
    assert "begun with other settings" in fails("search", "tiny.yaml", "--storage", url, cwd=tmp_path)


def test_spaces_works_from_any_folder(tmp_path):
    assert "quickstart" in nasseg("spaces", cwd=tmp_path).stdout
    shown = nasseg("spaces", "regseg", cwd=tmp_path).stdout
    assert "distinct schedules" in shown
    assert "regseg-t4-1" in shown


def test_a_space_is_shown_in_words(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "about: mine\nparameters:\n  family: regseg\n  width: [0.25, 0.5, 1.0]\n  stage3_depth: {range: [1, 4]}\n"
        "  decoder: [regseg, sum-3x3, lraspp]\n  se_ratio: {choices: [0.0, 0.25], when: {decoder: [regseg, lraspp]}}\n"
        "forbid:\n  - {width: 0.25, stage3_depth: {min: 3}}\n  - {width: [0.5, 1.0], stage3_depth: {min: 2, max: 3}}\n"
        "limits: {macs: {max: 2.0e+10}, latency_ms: {max: 20}, field_of_view: {min: 100, max: 900}}\n"
    )
    shown = nasseg("spaces", "s.yaml", cwd=tmp_path).stdout.splitlines()
    assert "se_ratio\t0.0, 0.25\tdecoder = regseg or lraspp" in shown
    assert [line for line in shown if line.startswith(("forbidden", "limit"))] == [
        "forbidden: width = 0.25, stage3_depth at least 3",
        "forbidden: width = 0.5 or 1.0, stage3_depth at least 2 and at most 3",
        "limit: macs at most 20 G",
        "limit: latency_ms at most 20 ms",
        "limit: field_of_view at least 100 px and at most 900 px",
    ]


def test_own_spaces_come_first(tmp_path):
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "regseg.yaml").write_text("about: mine\nparameters: {family: regseg, width: [0.25, 0.5]}\n")
    assert "2 points" in nasseg("spaces", "regseg", cwd=tmp_path).stdout


def test_sample_is_seeded(tmp_path):
    first = nasseg("sample", "quickstart", "-n", 4, "--seed", 3, "--json", cwd=tmp_path).stdout
    assert first == nasseg("sample", "quickstart", "-n", 4, "--seed", 3, "--json", cwd=tmp_path).stdout
    assert len(json.loads(first)) == 4


def test_measure_tells_all_figures(tmp_path):
    arguments = (
        "measure",
        "bisenetv2",
        "--input",
        "64x128",
        "--classes",
        "11",
        "--set",
        "width=0.25",
        "--latency",
        "--json",
    )
    figures = json.loads(nasseg(*arguments, cwd=tmp_path).stdout)
    assert {"family", "variant", "arch", "arch_id", "input_size", "form", "params", "macs", "fvcore_flops"} <= set(
        figures
    )
    assert figures["field_of_view"] > 0
    assert figures["variant"] is None
    assert {"p50_ms", "p90_ms", "p99_ms", "n", "protocol", "environment"} <= set(figures["latency"])
    assert figures["latency"]["protocol"]["num_classes"] == 11


def test_an_architecture_can_be_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("variant: regseg\nwidth: 0.5\n")
    figures = json.loads(nasseg("measure", "mine.yaml", "--input", "64x64", "--json", cwd=tmp_path).stdout)
    assert (figures["family"], figures["arch"]["width"]) == ("regseg", 0.5)


def test_published_networks_are_recognised(tmp_path):
    figures = json.loads(nasseg("measure", "regseg", "--set", "width=1.0", "--json", cwd=tmp_path).stdout)
    assert figures["variant"] == "regseg"
    assert figures["fvcore_flops"] == 39_077_228_288


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spaces", "quikstart"], "unknown space 'quikstart': did you mean 'quickstart'?"),
        (["search", "quikstart"], "unknown study 'quikstart': did you mean 'quickstart'?"),
        (["search", "none.yaml"], "no such file: none.yaml"),
        (["search", "."], ". is a folder, no study: `nasseg init --data .` writes a study for it"),
        (["measure", "bisenet2"], "did you mean 'bisenetv2'?"),
        (["measure", "regseg", "--set", "widht=1"], "did you mean 'width'?"),
        (["measure", "regseg", "--set", "width"], "--set takes KEY=VALUE"),
        (["measure", "regseg", "--input", "64"], "a size is HEIGHTxWIDTH"),
        (["measure", "regseg", "--latency", "--device", "tpu"], "device must be cpu, cuda"),
        (["measure", "regseg", "--latency", "--precision", "int3"], "precision must be one of"),
        (["report", "quickstart"], "run `nasseg search` first"),
        (["report", "quickstart", "--storage", "nowhere"], "a storage is a URL"),
        (["search", "quickstart", "--data", "x"], "--data does not apply"),
        (["search", "camvid-quick", "--data", "nowhere"], "no data set 'nowhere'"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message, tmp_path):
    assert message in fails(*arguments, cwd=tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("question", "qestion", "did you mean 'question'?"),
        ("steps: 3", "steps: many", "recipe.steps"),
        ("space: quickstart", "space: quikstart", "did you mean 'quickstart'?"),
        ("miou, macs", "moiu, macs", "did you mean 'miou'?"),
        ("miou, macs", "iou.rood, macs", "did you mean 'iou.road'?"),
        ("trials: 3", "sampler: tpee", "did you mean 'tpe'?"),
        ("trials: 3", "sampler: {name: tpe, multivariat: true}", "did you mean 'multivariate'?"),
        ("trials: 3", "published: [regsegg]", "did you mean 'regseg'?"),
        ("max: 3.0e+7", "mx: 3.0e+7", "min: x"),
    ],
)
def test_bad_study_files_say_what_is_wrong(old, new, message, tmp_path):
    text = TINY_STUDY.format(space="quickstart", workers=1)
    assert old in text
    (tmp_path / "bad.yaml").write_text(text.replace(old, new))
    assert message in fails("search", "bad.yaml", cwd=tmp_path)


@pytest.mark.slow
def test_own_figures_can_be_objectives_and_limits(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def memory(model, measurement):\n    return measurement.cost.activations * 4 / 1e6\n"
        "def bias(model, measurement):\n    return sum(p.abs().sum().item() for p in model.parameters())\n"
    )
    text = TINY_STUDY.format(space="quickstart", workers=1).replace(
        "[miou, macs, latency_ms]", "[miou, memory_mb, norm, iou.road]"
    )
    text = text.replace("macs: {max: 3.0e+7}", "memory_mb: {max: 50}, latency_p99_ms: {max: 1000}")
    text += (
        "figures:\n  memory_mb: {function: mine.py:memory, unit: MB, direction: minimize, phase: cost}\n"
        "  norm: {function: mine.py:bias, direction: minimize, phase: trained}\n"
    )
    (tmp_path / "own.yaml").write_text(text)
    nasseg("search", "own.yaml", cwd=tmp_path)
    rows = json.loads(nasseg("front", "own", "--json", cwd=tmp_path).stdout)
    assert all(row["memory_mb"] > 0 and row["norm"] > 0 and row["iou.road"] >= 0 for row in rows)


@pytest.mark.slow
def test_two_workers_and_a_journal(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_STUDY.format(space="quickstart", workers=2))
    done = nasseg("search", "tiny.yaml", "--storage", "study.log", cwd=tmp_path)
    assert "3 of 3 trained" in done.stdout


@pytest.mark.slow
def test_the_papers_tables_are_listed_and_reproduced(tmp_path):
    listed = json.loads(nasseg("reproduce", "--json", cwd=tmp_path).stdout)
    assert {"bisenetv2/table-3a", "regseg/table-4"} <= {table["name"] for table in listed}
    shown = nasseg("reproduce", "bisenetv2/table-3a", cwd=tmp_path).stdout
    nasseg("reproduce", "bisenetv2/table-3a", "-o", "table.md", cwd=tmp_path)
    assert (tmp_path / "table.md").read_text().startswith("## BiSeNetV2, Table 3a: ")
    assert "25.842" in shown
    assert "needs Cityscapes" in shown
    assert "did you mean 'bisenetv2/table-3" in fails("reproduce", "bisenetv2/table-3", cwd=tmp_path)
    assert "markdown" in fails("reproduce", "bisenetv2/table-3a", "--format", "markdow", cwd=tmp_path)


@pytest.mark.slow
def test_a_network_is_exported_and_predicts(tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30), (90, 90, 90)).save(tmp_path / "street.png")
    small = ("regseg", "--set", "width=0.25", "--input", "32x64", "--classes", 3)
    done = nasseg("export", *small, "-o", "small.onnx", cwd=tmp_path).stdout
    assert "card: small.card.json" in done
    assert json.loads((tmp_path / "small.card.json").read_text())["arch"]["params"]["width"] == 0.25
    nasseg("predict", "small.onnx", "street.png", "-o", "seen", cwd=tmp_path)
    assert Image.open(tmp_path / "seen" / "street.png").size == (40, 30)
    assert "--format" in fails("export", *small, "-o", "small.xyz", cwd=tmp_path)
    assert "cannot read other.onnx" in fails("predict", "other.onnx", "street.png", "-o", "seen", cwd=tmp_path)


@pytest.mark.slow
def test_a_folder_is_looked_at_and_a_study_begun(tmp_path):
    from tests.data.test_dataset import write_camvid

    write_camvid(tmp_path / "drive")
    found = nasseg("data", "check", "drive", "--sheet", "sheet.png", cwd=tmp_path).stdout
    assert "train: 3 images" in found
    assert (tmp_path / "sheet.png").stat().st_size > 100
    assert json.loads(nasseg("data", "check", "drive", "--json", cwd=tmp_path).stdout)
    assert "wrote" in nasseg("init", "--data", "drive", cwd=tmp_path).stdout
    assert (tmp_path / "studies" / "drive.yaml").exists()
    assert "drive.yaml" in fails("init", "--data", "drive", cwd=tmp_path)
    next((tmp_path / "drive" / "train").glob("*.png")).write_bytes(b"no picture")
    spoilt = nasseg("data", "check", "drive", cwd=tmp_path, code=1).stdout
    assert str(next((tmp_path / "drive" / "train").glob("*.png")).name) in spoilt
    assert "no" in fails("data", "check", "driv", cwd=tmp_path)


@pytest.mark.slow
def test_a_network_is_trained_resumed_and_the_front_finished(tmp_path):
    small = ("dabnet", "--set", "width=0.25", "--data", "scenes")
    (tmp_path / "short.yaml").write_text("{steps: 4, batch_size: 2, crop_size: [32, 64]}\n")
    done = nasseg("train", *small, "--recipe", "short.yaml", "--seeds", 2, cwd=tmp_path).stdout
    assert "mIoU" in done or "miou" in done
    folders = list((tmp_path / "runs" / "train").iterdir())
    assert len(folders) == 2
    assert {"last.pt", "best.pt", "curve.svg", "predictions.png", "result.json"} <= {
        path.name for path in folders[0].iterdir()
    }
    assert "did you mean" in fails("train", *small, "--recipe", "regseg-cityscape", cwd=tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY_STUDY.format(space="quickstart", workers=1))
    nasseg("search", "tiny.yaml", "--trials", 2, cwd=tmp_path)
    finished = nasseg("finish", "tiny.yaml", "--recipe", "short.yaml", "--seeds", 1, cwd=tmp_path).stdout
    assert "tiny@finish" in finished
    assert (
        "test" in finished.partition("tiny@finish")[2].partition("report: ")[0]
    )  # the held-out split beside the other
    assert "the best on the validation split: nasseg export tiny@finish#" in finished
    assert (tmp_path / "runs" / "tiny" / "finish.html").is_file()
    assert "tiny@finish" not in (tmp_path / "runs" / "tiny" / "report.html").read_text()


def test_measure_names_operators_that_nobody_can_count(tmp_path):
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "from nasseg.families.regseg import RegSegArch\n"
        "class Distant(RegSegArch):\n"
        "    def build(self, num_classes):\n"
        "        model = super().build(num_classes)\n"
        "        head = model.head.forward\n"
        "        model.head.forward = lambda x: head(x) + torch.cdist(x, x).mean()\n"
        "        return model\n"
    )
    measure = ("measure", "own.py:Distant", "--set", "width=0.25", "--input", "64x128")
    assert "no rule for cdist" in nasseg(*measure, cwd=tmp_path).stdout
    assert json.loads(nasseg(*measure, "--json", cwd=tmp_path).stdout)["unknown"] == {"cdist": 1}


@pytest.mark.slow
def test_fvcore_itself_counts_the_same_and_operators_add_up(tmp_path):
    small = ("measure", "regseg", "--set", "width=0.25", "--input", "64x128", "--json")
    found = json.loads(nasseg(*small, "--counter", "fvcore", "--operators", cwd=tmp_path).stdout)
    assert found["fvcore"]["total"] == found["fvcore_flops"]
    assert sum(row["macs"] for row in found["operators"]) == found["macs"]
    assert max(row["live_bytes"] for row in found["operators"]) == found["peak_activation_bytes"]
    assert "did you mean 'fvcore'" in fails(*small, "--counter", "fvcor", cwd=tmp_path)
