import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.dependency.param import read_param_file
from dvc.fs import localfs
from dvc.stage.utils import is_valid_name

from isopose import config
from isopose.bridge import dvc_file
from isopose.bridge.graph import Job
from isopose.bridge.names import at
from isopose.datasets.check import MIRRORED
from isopose.datasets.official import OFFICIAL
from isopose.datasets.preprocess import READERS
from isopose.errors import UserError

ROOT = Path(__file__).parents[3]


def job(rule, outputs, inputs=(), parameters=(), **wildcards):
    return Job(
        rule, wildcards, tuple(inputs), tuple(outputs), tuple(parameters), (), None, 1, True, "", False, (), None, ""
    )


def stages(jobs, parameters=None, track="open", in_git=()):
    """Stages without the entries of the ledger, which every one has beside its outputs."""
    text = dvc_file.text(track, jobs, parameters or {"params.yaml": {}}, in_git)
    assert text.startswith("# Generated")
    found = yaml.safe_load(text)["stages"]
    for made in jobs:
        for output in made.outputs:
            outs = found[dvc_file.stage_name(made)]["outs"]
            outs.remove({f"provenance/{track}/{output}.json": {"cache": False}})
    return found


def refine(role="test", weighting="hard_0.9"):
    folder = f"results/open/s/iso/{role}/{weighting}"
    outputs = [f"results/open/s/poses/{role}/iso/{weighting}.h5", f"{folder}/trace.csv", f"{folder}/record.json"]
    return job("refine", outputs, ["b.h5", "a.h5"], evaluation="s", role=role, weighting=weighting)


def test_a_stage_a_job_named_after_rule_and_wildcards():
    jobs = [refine(), job("index", ["index.html"]), job("all", [])]
    jobs += [job("evaluate", ["f.csv"], evaluation="s", role="test", method="full/seed1")]
    jobs += [job("train_lifter", ["f.json"], variant="full", seed="3"), job("table", ["t.csv"], number="7")]
    names = list(stages(jobs))
    assert names == [
        "refine-s-test-hard_0_9",
        "index",
        "evaluate-s-test-full-seed1",
        "train_lifter-full-seed3",
        "table-number7",
    ]
    assert all(is_valid_name(name) for name in names)


def test_two_jobs_of_one_name_are_refused():
    with pytest.raises(UserError, match=r"hard_0.9.h5 and .*hard_0_9.h5 both come to .*'refine-s-test-hard_0_9'"):
        stages([refine(weighting="hard_0.9"), refine(weighting="hard_0_9")])


def test_inputs_are_the_dependencies():
    assert stages([refine()])["refine-s-test-hard_0_9"]["deps"] == ["a.h5", "b.h5"]


@pytest.mark.parametrize(
    ("track", "wdir"),
    [("demo", None), ("open", "../..")],
)
def test_the_command_is_ours_asked_for_the_outputs(track, wdir):
    outputs = ["results/a b/$(x).h5", "results/it's.json"]
    stage = stages([job("refine", outputs, role="test")], track=track)["refine-test"]
    assert shlex.split(stage["cmd"]) == [
        "python",
        "-m",
        *f"isopose.bridge run --enter --track {track}".split(),
        *outputs,
    ]
    assert "$(x).h5'" in stage["cmd"]  # quoted: the shell expands nothing
    assert stage.get("wdir") == wdir


def flags(entry):
    return next(iter(entry.values())) if isinstance(entry, dict) else {}


@pytest.mark.parametrize("rule", ["preprocess", "occlusion_labels", "render_images", "lift"])
def test_bulky_stores_stay_here(rule):
    stage = stages([job(rule, ["x.h5"], role="test")])[f"{rule}-test"]
    assert stage["outs"] == [{"x.h5": {"push": False}}]


@pytest.mark.parametrize(("role", "pushed"), [("test", {}), ("validation", {"push": False})])
def test_detections_and_refined_poses_of_the_test_role_ship(role, pushed):
    stage = stages([refine(role)])[f"refine-s-{role}-hard_0_9"]
    assert flags(stage["outs"][0]) == pushed
    assert stage["outs"][1] == f"results/open/s/iso/{role}/hard_0.9/record.json"
    detect = stages([job("detect", ["d.h5", "d.json"], role=role)])[f"detect-{role}"]
    assert flags(detect["outs"][0]) == pushed
    assert detect["metrics"] == ["d.json"]


def test_of_the_demo_what_ships_goes_into_git_and_less_ships():
    def entry(path, rule="train_lifter"):
        (stage,) = stages([job(rule, [path], role="test")], track="demo").values()
        return flags(stage["outs"][0])

    embedded = {"remote": "embedded"}
    assert entry("results/demo/s/lifters/full/seed1/lifter.safetensors") == embedded
    assert entry("results/demo/s/lifters/base/seed1/record.json") == embedded
    assert entry("results/demo/s/lifters/base/seed1/lifter.safetensors") == {"push": False}
    assert entry("results/demo/s/poses/test/iso/selected.h5", "refine") == embedded
    assert entry("results/demo/s/poses/test/iso/soft_1.0.h5", "refine") == {"push": False}
    assert entry("reports/demo/s/figures/samples.png", "samples_figure") == {"push": False}


def test_weights_and_records_ship():
    outputs = ["lifter.safetensors", "record.json"]
    assert stages([job("train_lifter", outputs)])["train_lifter"]["outs"] == outputs


def test_a_rule_with_a_store_says_whether_it_ships():
    with pytest.raises(UserError, match=r"x.h5: the rule 'new' writes a store; expected it in bridge.dvc_file.STORES"):
        stages([job("new", ["x.h5"])])


def test_the_marker_of_this_machines_database_is_never_kept():
    assert stages([job("mlflow_database", ["m.ready"])])["mlflow_database"]["outs"] == [{"m.ready": {"cache": False}}]


def test_metrics_and_plots():
    jobs = [job(rule, [f"{rule}.json", f"{rule}.csv"]) for rule in ("evaluate", "calibrate", "select_weighting")]
    for name, stage in stages(jobs).items():
        assert stage["metrics"] == [f"{name}.json"] and stage["outs"] == [f"{name}.csv"]
    plots = stages([refine()])["refine-s-test-hard_0_9"]["plots"]
    assert plots == [{"results/open/s/iso/test/hard_0.9/trace.csv": {"x": "iteration", "y": "mpjpe"}}]
    figure = stages([job("samples_figure", ["f.svg", "f.png"])])["samples_figure"]
    assert figure["plots"] == ["f.svg"] and figure["outs"] == ["f.png"]


def test_what_git_keeps_dvc_only_watches():
    figure = stages([job("samples_figure", ["r/f.svg", "r/f.png"])], in_git={"r/f.svg", "r/f.png"})["samples_figure"]
    assert figure["plots"] == [{"r/f.svg": {"cache": False}}] and figure["outs"] == [{"r/f.png": {"cache": False}}]


def test_a_parameter_is_looked_for_where_its_value_comes_from():
    base = {"kept": 1, "replaced": 2, "merged": {"a": 1}, "turned": {"a": 1}, "nulled": {"a": 1}}
    over = {"replaced": 3, "merged": {"b": 2}, "turned": 4, "nulled": None, "added": {"c": 5}}
    names = ["kept", "replaced", "merged", "turned", "nulled", "added", "merged.a", "absent"]
    files = {"params.yaml": base, "experiments/x/params.yaml": over}
    found = stages([job("calibrate", ["c.json"], parameters=names)], files, track="x")["calibrate"]["params"]
    assert found == [
        {"params.yaml": ["kept", "merged", "merged.a"]},
        {"experiments/x/params.yaml": ["replaced", "merged", "turned", "nulled", "added"]},
    ]


def named_paths(values, prefix=""):
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from named_paths(value, f"{prefix}{key}.")


def test_dvc_finds_every_parameter_by_its_name_and_no_other():
    path = ROOT / "params.yaml"
    values = config.load(path)
    names = list(named_paths({"iso": values["iso"]}))
    assert any("0.9" in name for name in names)
    [entry] = stages([job("calibrate", ["c.json"], parameters=names)], {str(path): values})["calibrate"]["params"]
    asked = entry[str(path)]
    read = read_param_file(localfs, str(path), asked, flatten=True)
    assert len(asked) == len(set(asked)) == len(names)
    assert [read[name] for name in asked] == [at(values, dvc_file.keys_of(values, name)) for name in names]


def test_gitignore_decides_what_is_gits(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/results/\n/reports/demo/\n")
    paths = ["results/x/a b.h5", "reports/demo/f.svg", "reports/open/f.svg"]
    assert dvc_file.outputs_in_git(paths, tmp_path) == {"reports/open/f.svg"}
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    subprocess.run(["git", "-C", str(tmp_path), "add", "--force", *paths], check=True)
    assert dvc_file.outputs_in_git(paths, tmp_path) == {"reports/open/f.svg"}


def test_a_folder_without_git_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="git cannot say what it ignores"):
        dvc_file.outputs_in_git(["a"], tmp_path)


@pytest.mark.parametrize(("track", "read"), [("demo", {"synthetic"}), ("open", {"synthetic", *MIRRORED})])
def test_a_source_depends_on_its_own_reader_alone(track, read):
    """In the files as committed: an edit of another dataset's reader reruns nothing."""
    modules = {f"src/isopose/datasets/{reader}.py": reader for reader in (*READERS, *OFFICIAL)}
    made = yaml.safe_load((ROOT / dvc_file.path_of(track)).read_text())["stages"]
    named = {name: [modules[path] for path in stage.get("deps", ()) if path in modules] for name, stage in made.items()}
    assert not any(set(OFFICIAL) & set(readers) for readers in named.values())
    sources = [readers for name, readers in named.items() if name.startswith("preprocess-")]
    assert all(len(readers) == 1 for readers in sources)
    assert {reader for readers in sources for reader in readers} == read
