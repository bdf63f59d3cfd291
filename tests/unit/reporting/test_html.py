import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isopose.errors import UserError
from isopose.reporting import html

CAPTIONS = Path(__file__).parents[3] / "workflow" / "report"
ABOUT = {
    "track": "demo",
    "kind": "synthetic",
    "absent": [],
    "datasets": ["synthetic"],
    "seeds": [1],
    "command": "make reproduce",
}
VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Collects open tags, ids and links; fails on a wrongly closed tag."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src") if name in values]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def make_page(folder, metrics, about=ABOUT):
    (folder / "tables").mkdir(exist_ok=True)
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "tables" / "ablation.md").write_text("|   | a | b |\n|:--|--:|--:|\n| R&D | 1.0 | < 2 |\n\nA note.\n")
    for path in ("tables/ablation.csv", "tables/ablation.tex", "figures/ablation.svg", "figures/ablation.png"):
        (folder / path).write_text("")
    (folder / "params.yaml").write_text("track: demo\n")
    (folder / "records").mkdir(exist_ok=True)
    options = {"--output": folder / "index.html", "--metrics": f"Base={metrics}", "--captions": CAPTIONS}
    options |= {"--table": folder / "tables/ablation.csv", "--figure": folder / "figures/ablation.svg"}
    options |= {"--parameters": folder / "params.yaml", "--records": folder / "records", "--params": json.dumps(about)}
    options |= {"--machine": "2 cores <no GPU>"}
    arguments = [str(part) for pair in options.items() for part in pair]
    CliRunner().invoke(html.app, arguments, catch_exceptions=False)
    return (folder / "index.html").read_text(encoding="utf-8")


def test_page_is_whole_and_self_contained(tmp_path, write_json, samples):
    page = make_page(tmp_path, write_json("metrics.json", samples.metrics(60)))
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    for link in checker.links:
        assert link[1:] in checker.ids if link.startswith("#") else (tmp_path / link).exists(), link
    assert not re.search(r"https?:|<script|@import|url\(", page)


def test_page_says_what_the_numbers_are(tmp_path, write_json, samples):
    metrics = write_json("metrics.json", samples.metrics(60))
    page = make_page(tmp_path, metrics)
    assert "<strong>Synthetic data.</strong>" in page
    assert "61.0" in page
    assert "58.0 to 62.0" in page
    assert "R&amp;D" in page
    assert "2 cores &lt;no GPU&gt;" in page
    assert "A note." in page
    assert "the root included" in page
    page = make_page(tmp_path, metrics, ABOUT | {"kind": "rendered", "datasets": ["cmu_mocap"]})
    assert "Synthetic data." not in page
    assert "captured from real people" in page


def test_same_input_same_bytes(tmp_path, write_json, samples):
    metrics = write_json("metrics.json", samples.metrics(60))
    assert make_page(tmp_path, metrics) == make_page(tmp_path, metrics)


@pytest.mark.parametrize("path", sorted(CAPTIONS.glob("*_*.rst")), ids=lambda path: path.stem)
def test_captions_have_a_title_and_text(path):
    title, text = html.caption(path)
    assert title
    assert text.startswith("<p>")


def test_a_caption_without_title_is_refused(tmp_path):
    path = tmp_path / "table_x.rst"
    path.write_text("No title.\n")
    with pytest.raises(UserError, match="does not open with a title"):
        html.caption(path)
