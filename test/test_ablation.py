"""The paper's ablations as a command: every row printed, what is missing said so, and nothing run twice."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_truth import exact_body, flat_truth

from crowd4d_ros import cli
from crowd4d_ros.config import Config, updated
from crowd4d_ros.evaluation import ablation
from crowd4d_ros.evaluation.ablation import METRICS, TABLES, AblationError, Options, ablate
from crowd4d_ros.evaluation.results_page import LABEL_WIDTH, departures, page, text, write_page
from crowd4d_ros.synthetic.config import ObservationConfig
from crowd4d_ros.synthetic.observation import observe

CROWD = ["--scenes", "hill", "--cameras", "surveillance", "--seeds", "3", "--people", "4", "--frames", "16"]
HASTE = ["--device", "cpu", "--set", "optimization.stage1_iterations=2", "--set", "optimization.stage2_iterations=1"]


def walkers(request):
    """In the place of a scene: a few people on a slope, seen with the errors of any other."""
    truth = flat_truth(request.people, request.frames, request.seed, slope=(0.02, -0.06))
    return truth, observe(truth, exact_body(), ObservationConfig(), np.random.default_rng(request.seed))


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What `crowd4d ablate` prints of a tiny crowd, and where it keeps it."""
    out = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        lines: list[tuple[str, dict[str, object]]] = []
        patch.setattr(ablation, "synthesize", walkers)
        patch.setattr("builtins.print", lambda *words, **options: lines.append((" ".join(map(str, words)), options)))
        code = cli.main(["ablate", *CROWD, *HASTE, "--out", str(out), "--page", str(out / "results.md")])
    assert code == 0
    return "\n".join(line for line, options in lines if "file" not in options), out


def test_every_row_of_every_table_is_printed_with_the_papers_numbers(printed):
    shown, _ = printed
    for number, table in TABLES.items():
        of_table = shown.split(f"Table {number}:")[1].split("\n\n")[0]
        for row in table.rows:
            [line] = [line for line in of_table.splitlines() if line[:LABEL_WIDTH].rstrip() == row.label]
            for figure in row.paper or ():
                assert f"({figure:.2f})" in line


def test_the_stage_that_does_not_exist_is_missing_and_no_number(printed):
    shown, out = printed
    [line] = [line for line in shown.splitlines() if line.startswith("stages 1 + 2 + 3")]
    assert line.count("missing") == len(METRICS) + 1
    with (out / "table5.csv").open() as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert rows["stages 1 + 2 + 3"]["PPDS ours"] == "missing"
    assert float(rows["stages 1 + 2"]["PPDS ours"]) > 0
    assert float(rows["stages 1 + 2 + 3"]["PPDS paper"]) == 89.04


def test_what_was_run_is_not_run_again(printed, monkeypatch):
    _, out = printed

    def never(*arguments):
        raise AssertionError("was run again")

    monkeypatch.setattr(ablation, "_run", never)
    monkeypatch.setattr(ablation, "synthesize", never)
    assert cli.main(["ablate", *CROWD, *HASTE, "--out", str(out)]) == 0
    with pytest.raises(AssertionError, match="run again"):
        ablate(options(out, seeds=(4,)), updated(Config(), {"device": "cpu"}))


def test_the_page_says_where_the_numbers_come_from_and_is_the_same_again(printed):
    _, out = printed
    report = json.loads((out / "ablation.json").read_text())
    written = (out / "results.md").read_text()
    for said in ("4 people x 16 frames", "hill", "seeds 3", "author_native", "by detection", report["machines"][0]):
        assert said in written
    assert report["dates"][0] in written
    assert report["versions"]["torch"] in written
    assert str(out) not in written
    (out / "again_notes.md").write_text("Said by hand.\n")
    write_page(out / "again.md", report, "crowd4d ablate")
    once = (out / "again.md").read_text()
    write_page(out / "again.md", report, "crowd4d ablate")
    assert (out / "again.md").read_text() == once
    assert "Said by hand." in once


def options(out, **others):
    return Options(
        tables=(5,), out=Path(out), **{"scenes": ("hill",), "seeds": (3,), "people": 4, "frames": 16, **others}
    )


@pytest.mark.parametrize("wrong", [{"tables": (3,)}, {"scenes": ()}, {"seeds": ()}])
def test_what_cannot_be_run_is_refused(tmp_path, wrong):
    with pytest.raises(AblationError, match=r"table 3|no scenes|no seeds"):
        Options(**{"tables": (5,), "out": tmp_path, **wrong})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--table", "five"], "whole numbers"),
        (["--set", "interaction.coupling=glue"], "interaction.coupling"),
        (["--set", "optimization.stages=3"], "optimization.stages"),
        (["--scenes", "moon"], "moon"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path, capsys, arguments, said):
    assert cli.main(["ablate", *CROWD, *arguments, "--out", str(tmp_path)]) == cli.USER_ERROR
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error


# what is compared, on numbers made by hand


def report_of(first, second):
    """Table 7 of two crowds, PPDS as given and all else constant."""

    def runs(numbers):
        return [
            {
                "metrics": dict.fromkeys(METRICS, 50.0) | {"ppds": n},
                "seconds": 1.0,
                "machine": "abacus",
                "date": "today",
            }
            for n in numbers
        ]

    named = {ablation._name(row): runs(n) for row, n in zip(TABLES[7].rows, (first, second), strict=True)}
    return ablation._report(Options((7,), Path("out")), Config(), named)


def test_a_step_the_papers_way_is_no_departure_and_the_other_way_is_one():
    step = report_of([80.0, 90.0], [81.0, 92.0])["tables"][0]["steps"][0]
    assert (step["ours"], step["agrees"], step["crowds"]) == (1.5, True, [2, 2])
    table = report_of([80.0, 90.0], [81.0, 86.0])["tables"][0]
    assert table["steps"][0]["crowds"] == [1, 2]
    assert any("PPDS" in said and "−1.50" in said and "1 of 2" in said for said in departures(table))


def test_means_and_verdicts_are_in_the_page_and_the_text():
    report = report_of([80.0, 90.0], [81.0, 86.0])
    for shown in (page(report, "crowd4d ablate", "notes.md", ""), text(report)):
        assert "85.00 (90.57)" in shown
        assert "83.50 (90.71)" in shown
    assert "**no**, 1/2" in page(report, "crowd4d ablate", "notes.md", "")
