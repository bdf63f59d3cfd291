import copy
from pathlib import Path

import pytest
import yaml

from isopose import config
from isopose.errors import UserError

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow/schemas/params.schema.yaml"
OVERLAYS = sorted((ROOT / "experiments").glob("*/params.yaml"))


@pytest.fixture(scope="module")
def demo():
    return config.load(ROOT / "params.yaml")


@pytest.mark.parametrize("overlay", [None, *OVERLAYS], ids=lambda path: path.parent.name if path else "demo")
def test_every_track_is_valid_and_named_like_its_folder(overlay):
    loaded = config.load(ROOT / "params.yaml", overlay)
    config.validate(loaded, SCHEMA)
    assert loaded["track"] == (overlay.parent.name if overlay else "demo")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("lifter", "weights", "multi_vew"),
            1.0,
            "unknown parameter 'lifter.weights.multi_vew', did you mean 'multi_view'?",
        ),
        (("estimator", "widht"), 16, "unknown parameter 'estimator.widht', did you mean 'width'?"),
        (("evaluations", "synthetic", "test", 0, "camera"), [], "did you mean 'cameras'?"),
        (("variants", "base", "set", "dropout"), 2, "'variants.base.set.dropout' is 2, expected less than 1"),
        (("iso", "iterations"), -1, "'iso.iterations' is -1, expected at least 0"),
        (("iso", "variable"), "weights", "'iso.variable' is 'weights', expected one of pose, network, latent"),
        (("lifter", "projection"), "orth", "is 'orth', expected one of weak_perspective, torso, perspective"),
        (
            ("evaluations", "synthetic", "protocol"),
            "human36m",
            "is 'human36m', expected one of humaneva, mpi_inf_3dhp, three_dpw",
        ),
        (
            ("evaluations", "synthetic", "adaptation"),
            [{"source": "synthetic", "cameras": ["cam1"]}],
            "'evaluations.synthetic.protocol' is missing",
        ),
        (("seed",), "one", "'seed' is 'one', expected integer"),
        (("device",), "tpu", "'device' is 'tpu', expected one of cpu, cuda"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(demo, path, value, message):
    wrong = copy.deepcopy(demo)
    target = wrong
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(UserError) as error:
        config.validate(wrong, SCHEMA)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_joint_adaptation_belongs_to_3dpw(demo):
    evaluation = copy.deepcopy(demo)["evaluations"]["synthetic"]
    evaluation |= {"protocol": "humaneva", "adaptation": [{"source": "synthetic", "cameras": ["cam1"]}]}
    with pytest.raises(UserError, match="'evaluations.synthetic.protocol' is 'humaneva', expected one of three_dpw"):
        config.validate(demo | {"evaluations": {"synthetic": evaluation}}, SCHEMA)
    evaluation["protocol"] = "three_dpw"
    config.validate(demo | {"evaluations": {"synthetic": evaluation}}, SCHEMA)


def test_a_missing_parameter_is_named(demo):
    wrong = {key: value for key, value in demo.items() if key != "iso"}
    with pytest.raises(UserError, match="'iso' is missing"):
        config.validate(wrong, SCHEMA)


def test_every_parameter_is_described():
    def undescribed(schema, where):
        for key, value in schema.get("properties", {}).items():
            described = "description" in value
            target = value
            if "$ref" in value:
                described |= value["$ref"].removeprefix("#/$defs/") in ("lifter",)
            if not described:
                yield f"{where}.{key}"
            yield from undescribed(target, f"{where}.{key}")

    schema = yaml.safe_load(SCHEMA.read_text())
    missing = list(undescribed(schema, "params"))
    for name, definition in schema["$defs"].items():
        missing += list(undescribed(definition, name))
    assert [m for m in missing if m != "weighting.weighting"] == []


def test_merge_lays_mappings_over_and_replaces_the_rest():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert config.merge(base, {"a": {"c": [3]}, "e": 2}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": 2}
    assert config.drop_nulls({"a": {"b": None, "c": 1}, "d": None}, ("a",)) == {"a": {"c": 1}, "d": None}


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read"):
        config.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(UserError, match=r"bad\.yaml: is not valid YAML"):
        config.load(tmp_path / "bad.yaml")


def test_text_from_the_command_line_becomes_what_the_schema_wants(demo):
    given = config.merge(demo, {"iso": {"smoothness": "0.1", "detach_weights": "true", "iterations": "many"}})
    given = config.merge(given, {"variants": {"base": {"set": {"dropout": "0.2"}}}})
    result = config.typed(given, SCHEMA)
    assert (result["iso"]["smoothness"], result["iso"]["detach_weights"]) == (0.1, True)
    assert result["variants"]["base"]["set"]["dropout"] == 0.2
    assert result["iso"]["iterations"] == "many"  # validate refuses it by name
    assert given["iso"]["smoothness"] == "0.1"


def test_names_that_look_like_numbers_stay_names():
    loaded = config.load(ROOT / "params.yaml", ROOT / "experiments/open/params.yaml")
    assert config.typed(loaded, SCHEMA) == loaded


def test_the_order_of_keys_is_the_references_at_every_depth():
    reference = {"a": 1, "rows": {"base": {"x": 1, "y": 2}, "full": {}, "late": {}}}
    found = config.in_order({"new": 0, "rows": {"full": {"z": 1}, "base": {"y": 3, "x": 4}}, "a": 5}, reference)
    assert found == {"a": 5, "rows": {"base": {"x": 4, "y": 3}, "full": {"z": 1}}, "new": 0}
    assert list(found) == ["a", "rows", "new"]
    assert list(found["rows"]) == ["base", "full"] and list(found["rows"]["base"]) == ["x", "y"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"cameras": ["cam1"]}, "unknown parameter 'sources.x.cameras'"),
        ({"reader": "humaneva"}, "'sources.x.part' is missing"),
        ({"reader": "kinect"}, "expected one of synthetic, .*three_dpw"),
    ],
)
def test_a_source_is_checked_by_what_its_reader_takes(demo, change, message):
    source = {"reader": "human36m", "fps": 50, "subjects": None, "actions": None, "occluded": False} | change
    params = copy.deepcopy(demo)
    params["sources"]["x"] = source
    if message is None:
        config.validate(params, SCHEMA)
    else:
        with pytest.raises(UserError, match=message):
            config.validate(params, SCHEMA)
