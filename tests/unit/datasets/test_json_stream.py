import json

import numpy as np
import pytest

from isopose.datasets import json_stream
from isopose.datasets.json_stream import WHOLE, read_elements
from isopose.errors import UserError

CONTENT = {
    "info": {"a": [1, {"b": None}], "text": 'ü " \\ ] }'},
    "number": 12.5,
    "first": [1, 23.25, -4e-3, "x,]", None, True, [], {}, {"deep": [[1]]}],
    "other": [{"id": 1}] * 3,
    "empty": [],
    "second": [{"id": index, "text": "é" * index} for index in range(40)],
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 18])
def test_elements_are_those_that_json_reads_whole(tmp_path, monkeypatch, chunk, indent):
    """Whatever the place at which the text read so far ends."""
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = tmp_path / "file.json"
    path.write_text(json.dumps(CONTENT, ensure_ascii=False, indent=indent), encoding="utf-8")
    found = list(read_elements(path, ("first", "second", "empty"), "a test"))
    assert found == [("first", value) for value in CONTENT["first"]] + [("second", v) for v in CONTENT["second"]]
    path.write_text(json.dumps(CONTENT["first"], indent=indent), encoding="utf-8")
    assert [value for _, value in read_elements(path, (WHOLE,), "a test")] == CONTENT["first"]


def test_every_file_cut_short_is_refused(tmp_path):
    text = json.dumps({"first": [1, 2.5, "abc"], "x": {"y": 1}})
    path = tmp_path / "file.json"
    for length in range(len(text)):
        path.write_text(text[:length])
        with pytest.raises(UserError, match=r"file\.json: cannot be read \(.*\); expected a test; copy it from"):
            list(read_elements(path, ("first",), "a test"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"first": [1, NaN]}', "holds NaN"),
        ('{"first": [1 2]}', "has '2' in place of ','"),
        ('{"first": [1]} x', "something follows the end"),
        ('{"first": 5}', r"has no array \['first'\]"),
        ('[{"first": []}]', r"has '\[' in place of '\{'"),
        ('{"first": [' + "[" * 200_000, "recursion"),
        ('{"first": [' + "9" * 5000 + "]}", "limit"),
        ('{"first": ["' + "a" * 300_000, "longer than 100000 characters"),
        (b'{"first": ["\xff"]}', "codec can't decode"),
    ],
)
def test_what_is_not_the_json_expected_is_one_line(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(json_stream, "MOST_CHARACTERS", 100_000)
    monkeypatch.setattr(json_stream, "CHUNK", 200_000 if "[[" in str(text) else 1000)
    path = tmp_path / "file.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message) as refused:
        list(read_elements(path, ("first",), "a test"))
    assert "\n" not in str(refused.value)


def test_random_bytes_are_refused(tmp_path):
    path = tmp_path / "file.json"
    rng = np.random.default_rng(0)
    for _ in range(200):
        path.write_bytes(b"{" + rng.choice(list(b'{}[]":,0 "a'), 30).astype(np.uint8).tobytes())
        with pytest.raises(UserError):
            list(read_elements(path, ("a",), "a test"))
