"""A study's front as LaTeX, and the papers to cite."""

import re
from dataclasses import replace

from nasseg.analyse.trials import front_frame
from nasseg.report.parts.for_paper import bibtex, latex_front
from tests.report.fake import fake_record


def test_the_front_is_a_table_in_latex_best_first_with_the_best_in_bold():
    record = replace(fake_record(120), name="50%_a & b")
    text, front = latex_front(record), front_frame(record)
    rows = [line for line in text.splitlines() if line.startswith(r"\#")]
    assert [int(re.match(r"\\#(\d+)", row)[1]) for row in rows] == front["number"].tolist()
    assert r"\caption{Pareto front of 50\%\_a \& b.}" in text
    assert "mIoU (\\%) & latency (median) (ms)" in text
    assert len({row.count("&") for row in rows}) == 1
    assert rows[0].split(" & ")[2] == rf"\textbf{{{front['miou'][0]:.4g}}}"
    assert text.count(r"\textbf{") >= len(record.objectives)
    assert "Accuracy: street scenes" in text
    assert text.count("{") == text.count("}")


def test_bibtex_has_each_paper_that_a_study_builds_on_once():
    record = fake_record(60)
    keys = re.findall(r"@\w+\{(\w+),", bibtex(record))
    assert keys == ["yu2021bisenetv2", "gao2021regseg"]
    arch = {"family": "composed", "encoder": "backbone", "encoder_settings": {"name": "resnet18"}, "decoder": "ffm"}
    done = next(trial for trial in record.trials if trial.state == "COMPLETE")
    accuracy = replace(done.accuracy, protocol=replace(done.accuracy.protocol, data="/data/CamVid"))
    trial = replace(done, arch=arch, measurement=replace(done.measurement, accuracy=accuracy))
    keys = re.findall(r"@\w+\{(\w+),", bibtex(replace(record, trials=(trial,), published=())))
    assert keys == ["fan2021stdc", "he2016resnet", "brostow2009camvid"]
    assert bibtex(replace(record, trials=(), published=())) == ""
