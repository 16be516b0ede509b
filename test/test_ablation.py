"""The paper's ablations as a command: every row printed, and nothing run twice."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_truth import exact_body, flat_truth

from crowd4d_ros import cli
from crowd4d_ros.config import Config, updated
from crowd4d_ros.evaluation import ablation, runs
from crowd4d_ros.evaluation.ablation import AblationError, Options, ablate
from crowd4d_ros.evaluation.floors import floors_document
from crowd4d_ros.evaluation.results_page import LABEL_WIDTH, departures, page, shortfalls, text, write_page
from crowd4d_ros.evaluation.runs import Variant, quietly, relief, run_all, true_scale
from crowd4d_ros.evaluation.tables import (
    COLUMNS,
    COUNTINGS,
    FLOOR_ROWS,
    FLOORS,
    OBSERVATIONS,
    OURS,
    TABLES,
)
from crowd4d_ros.synthetic.config import ObservationConfig, SynthesisConfig
from crowd4d_ros.synthetic.observation import observe
from crowd4d_ros.synthetic.synthesize import Request, streams

CROWD = ["--scenes", "hill", "--cameras", "surveillance", "--seeds", "3", "--people", "4", "--frames", "16"]
HASTE = ["--device", "cpu", "--set", "optimization.stage1_iterations=2", "--set", "optimization.stage2_iterations=1"]
if hasattr(Config().optimization, "stage3_iterations"):
    HASTE += ["--set", "optimization.stage3_iterations=1"]


def walkers(request):
    """In the place of a scene: a few people on a slope, seen with the errors of any other."""
    truth = flat_truth(request.people, request.frames, request.seed, slope=(0.02, -0.06))
    return truth, observe(truth, exact_body(), request.config.observation, streams(request.seed)["observation"])


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What `crowd4d ablate` prints of a tiny crowd, and where it keeps it."""
    out = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        lines: list[tuple[str, dict[str, object]]] = []
        patch.setattr(runs, "synthesize", walkers)
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


def test_the_papers_numbers_are_beside_ours_in_the_files(printed):
    with (printed[1] / "table5.csv").open() as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert float(rows["stage 1"]["PPDS ours"]) > 0
    assert float(rows["stages 1 + 2 + 3"]["PPDS paper"]) == 89.04


def test_a_row_that_cannot_be_run_is_an_error_that_names_it_and_says_why(monkeypatch):
    def two(config, coupling):
        if config.stages > 2:
            raise ablation.ConfigError("there are no more than two")

    monkeypatch.setattr(ablation, "stages", two)
    with pytest.raises(AblationError, match=r"'stages 1 . 2 . 3' cannot be run.*no more than two"):
        ablation._variants(("5",), updated(Config(), {"optimization.stages": 2}))


def test_what_was_run_is_not_run_again(printed, monkeypatch):
    _, out = printed

    def never(*arguments):
        raise AssertionError("was run again")

    monkeypatch.setattr(runs, "_run", never)
    monkeypatch.setattr(runs, "synthesize", never)
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
        out=Path(out),
        **{"tables": ("5",), "scenes": ("hill",), "seeds": (3,), "people": 4, "frames": 16, **others},
    )


@pytest.mark.parametrize("wrong", [{"tables": ("2",)}, {"scenes": ()}, {"seeds": ()}, {"jobs": 0}])
def test_what_cannot_be_run_is_refused(tmp_path, wrong):
    with pytest.raises(AblationError, match=r"table 2|no scenes|no seeds|jobs"):
        Options(**{"tables": ("5",), "out": tmp_path, **wrong})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--table", "five"], "no table five: choose from 3, 4, 5, 6, 7, floors"),
        (["--seeds", "one"], "whole numbers"),
        (["--crowds", "hill:drone"], "SCENE:CAMERA:SEED"),
        (["--set", "interaction.coupling=glue"], "interaction.coupling"),
        (["--set", "optimization.stages=9"], "optimization.stages"),
        (["--scenes", "moon"], "moon"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path, capsys, arguments, said):
    assert cli.main(["ablate", *CROWD, *arguments, "--out", str(tmp_path)]) == cli.USER_ERROR
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error


# what is compared, on numbers made by hand


def made_up(relief=2.0, camera="surveillance", **numbers):
    """A run's numbers as given, and all else constant."""
    crowd = {"scene": "hill", "camera": camera, "seed": 3, "relief": relief}
    facts = {"seconds": 1.0, "machine": "abacus", "date": "today"}
    return {**crowd, **facts, "metrics": dict.fromkeys(COLUMNS, 50.0) | numbers}


def report_of(first, second, metric="ppds"):
    """Table 7 of two crowds."""
    rows = zip(TABLES["7"].rows, (first, second), strict=True)
    named = {row.name: [made_up(**{metric: n}) for n in numbers] for row, numbers in rows}
    return ablation._report(Options(("7",), Path("out")), Config(), named)


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


def test_what_the_paper_does_not_have_should_become_better():
    """Errors under occlusion beside Table 7; where nothing changes nothing is said."""
    worse = report_of([80.0, 90.0], [81.0, 91.0], "hidden_mpjpe")["tables"][0]
    assert ["hidden: MPJPE" in said and "better in 0 of 2" in said for said in departures(worse)].count(True) == 1
    better = report_of([80.0, None], [79.0, 90.0], "hidden_mpjpe")["tables"][0]
    assert not any("hidden" in said for said in departures(better))
    step = next(step for step in better["steps"] if step["metric"] == "hidden_mpjpe")
    assert (step["ours"], step["agrees"], step["crowds"]) == (-1.0, True, [1, 1])


def test_crowds_may_be_chosen_one_by_one():
    chosen = Options(("5",), Path("out"), crowds=(("hill", "drone", 4), ("plaza", "gigapixel", 5)))
    assert [(r.scene, r.camera, r.seed) for r in chosen.requests("")] == list(chosen.crowds)
    assert len(Options(("5",), Path("out"), seeds=(1, 2), scenes=("hill", "plaza")).requests("")) == 4
    of_rows = {row.name: [made_up()] for row in TABLES["5"].rows}
    assert "hill drone 4, plaza gigapixel 5" in text(ablation._report(chosen, Config(), of_rows))


# the floors


def floors_of(initial, ours):
    """The two countings of our row and of the initial motion's, from the same observations."""
    document = floors_document({row.name: initial for row in FLOOR_ROWS} | {OURS.name: ours})
    return [{row["label"]: row["cells"] for row in counting["rows"]} for counting in document["countings"]]


def test_floors_are_judged_in_the_mean_and_crowd_by_crowd():
    with_misses, found = floors_of(
        [made_up(mpjpe=100.0, accel=200.0), made_up(mpjpe=200.0, accel=200.0)],
        [made_up(ppds=95.0, mpjpe=74.0, accel=81.0), made_up(ppds=90.0, mpjpe=160.0, accel=60.0)],
    )
    assert with_misses["ours"]["ppds"] | {"of_initial": None} == {
        "mean": 92.5, "of_initial": None, "limit": 92.0, "reached": True, "crowds": [1, 2],
    }  # fmt: skip
    assert with_misses["ours"]["mpjpe"]["of_initial"] == pytest.approx(234 / 300)
    assert with_misses["ours"]["mpjpe"]["reached"] is False
    assert with_misses["ours"]["mpjpe"]["crowds"] == [1, 2]
    assert found["ours"]["accel"]["reached"] is True
    assert found["ours"]["accel"]["crowds"] == [1, 2]
    assert with_misses["initial motion"]["mpjpe"]["reached"] is None


def test_floors_keep_the_two_ways_of_counting_apart():
    with_misses, found = floors_of([made_up()], [made_up(ppds=78.0, ppds_found=95.0, pcod=97.0, pcod_found=90.0)])
    assert not any(name.endswith("found") for name in with_misses["ours"])
    assert not {"ppds", "pcod", "mpjpe", "recall"} & set(found["ours"])
    assert with_misses["ours"]["ppds"]["reached"] is False
    assert found["ours"]["ppds_found"]["reached"] is True
    assert found["ours"]["pcod_found"]["reached"] is False


def test_floors_are_of_ground_that_is_not_flat():
    flat, hilly = made_up(relief=0.1, ppds=99.0), made_up(relief=1.0, ppds=80.0)
    document = floors_document({row.name: [flat, hilly] for row in FLOOR_ROWS})
    assert document["crowds"] == 1
    assert document["countings"][0]["rows"][2]["cells"]["ppds"]["mean"] == 80.0


def test_floors_that_are_not_reached_are_said_and_the_scale_is_unknown_without_a_scene():
    without = {**made_up(), "metrics": made_up()["metrics"] | {"scale_off": None}}
    named = {row.name: [made_up(mpjpe=70.0)] for row in FLOOR_ROWS} | {"coupling=none": [without]}
    report = ablation._report(Options((FLOORS,), Path("out")), Config(), named)
    said = shortfalls(report["floors"])
    assert any("MPJPE 70.00 (×1.00) **fail** 0/1, to be ≤ ×0.75" in line for line in said)
    assert {line.split(",")[0] for line in said} == {"ours"}
    [line] = [line for line in page(report, "", "", "").splitlines() if line.startswith("| no scene") and "–" in line]
    assert "None" not in line
    assert "FAIL" in text(report)


def test_a_floor_that_was_not_measured_is_not_taken_for_reached():
    """Where all ground is flat, nothing is."""
    flat = {row.name: [made_up(relief=0.0, ppds=99.0)] for row in FLOOR_ROWS}
    said = shortfalls(floors_document(flat))
    floors = sum(len(counting.floors) for counting in COUNTINGS)
    assert len(said) == 2 * floors
    assert all("not measured" in line for line in said)


def test_every_floor_is_printed(printed):
    shown, out = printed
    for part in shown.split("Floors, ")[1:]:
        for row in FLOOR_ROWS:
            assert any(line.startswith(row.label + " ") for line in part.splitlines())
    with (out / "floors.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["row"] for line in lines} == {row.label for row in FLOOR_ROWS}
    noisy, plain = (
        next(line for line in lines if line["row"] == label and line["metric"] == "mpjpe_found")
        for label in ("initial motion, 1.5x noise", "initial motion")
    )
    assert float(noisy["mean"]) != float(plain["mean"])


def test_perfect_bodies_say_what_the_observations_allow_of_scale_and_feet_and_of_nothing_else(printed):
    report = json.loads((printed[1] / "ablation.json").read_text())
    [perfect], [noisy] = report["runs"]["perfect bodies"], report["runs"]["1.5x noise, perfect bodies"]
    known = {name for name, number in perfect["metrics"].items() if number is not None}
    assert known == {"scale_off", "scale_error", "feet_terrain", "feet_terrain_mean", "feet_terrain_resized"}
    assert 0 < perfect["metrics"]["scale_off"] < 15
    assert 0 < perfect["metrics"]["feet_terrain"] < 100
    assert noisy["metrics"]["feet_terrain"] != perfect["metrics"]["feet_terrain"]


def test_perfect_bodies_that_do_not_meet_the_scene_end_no_command(monkeypatch):
    def nowhere(*arguments):
        raise runs.ScaleError("nobody is visible")

    monkeypatch.setattr(runs, "attainable", nowhere)
    request = Request("hill", "surveillance", people=3, frames=10, seed=3)
    run = runs._run(request, *walkers(request), Variant(Config(), "default", is_perfect=True))
    assert run["warnings"] == ["nobody is visible"]
    assert not any(run["metrics"].values())


def test_cameras_and_crowds_are_shown_apart(printed):
    _, out = printed
    written = (out / "results.md").read_text()
    assert "surveillance, not flat: ours" in written
    assert "| hill surveillance 3 |" in written


# what is run


def test_the_true_scale_is_what_the_observations_hide():
    truth = flat_truth(3, 20, camera_velocity=(1.0, 0.2, -0.5))
    steady = SynthesisConfig(observation=ObservationConfig(camera_drift=0.0, camera_turn=0.0))
    request = Request("hill", "drone", 3, 20, seed=7, config=steady)
    observed = observe(truth, exact_body(), steady.observation, streams(7)["observation"])
    shrunk = np.linalg.norm(np.diff(observed.cameras.centers, axis=0), axis=-1)
    true = np.linalg.norm(np.diff(truth.cameras.centers, axis=0), axis=-1)
    assert true_scale(request, truth) == pytest.approx(true.sum() / shrunk.sum(), rel=1e-6)
    assert abs(true_scale(request, truth) - 1) > 0.1


def test_true_tracks_show_everybody_as_one():
    truth = flat_truth(6, 40, seed=1)
    observed = observe(truth, exact_body(), OBSERVATIONS["true tracks"], np.random.default_rng(0))
    assert observed.num_people == truth.num_people
    assert (observed.observed.sum(0) == ((truth.visibility > 0) & truth.valid).sum(0)).all()


def test_relief_is_of_where_people_stand():
    assert relief(flat_truth(3, 10)) == 0.0
    assert relief(flat_truth(6, 10, slope=(0.0, 0.3))) > 1.0


def test_runs_in_processes_of_their_own_are_the_same_runs(tmp_path):
    """A crowd of a real scene: nothing of this process has a part in it."""
    hasty = {name: int(number) for name, _, number in (word.partition("=") for word in HASTE) if number}
    variants = {"ours": Variant(updated(Config(), {"device": "cpu", **hasty}), "default")}
    crowd = Request("plaza", "surveillance", people=2, frames=6, seed=3)
    found = []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        folder.mkdir()
        found.append(run_all([crowd], variants, folder, [], jobs, quietly)["ours"][0])
    assert found[0]["metrics"] == found[1]["metrics"]
    assert found[0]["scale"] == found[1]["scale"]
