"""The page of a track: one plain, self-contained HTML file around the tables and figures of a run."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import typer
from docutils.core import publish_parts
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isopose import stage, tracking
from isopose.errors import UserError
from isopose.files import write_text
from isopose.reporting.tables import read_json


@dataclass(frozen=True)
class Item:
    """A table or figure of the page: its anchor, caption, body, and links to its other forms."""

    name: str
    title: str
    caption: Markup
    body: Markup
    links: Mapping[str, str]


def caption(path: Path) -> tuple[str, Markup]:
    """Title and text of a caption, reStructuredText that opens with its title in ``**bold**``."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); expected a caption; write one") from error
    found = re.match(r"\*\*(.+?)\.?\*\*\s*(.*)", text.strip(), re.DOTALL)
    if not found:
        raise UserError(f"{path}: does not open with a title in **bold**; put one there")
    settings = {"report_level": 3, "halt_level": 3}
    parts = publish_parts(found[2], writer="html5", settings_overrides=settings)
    return found[1], Markup(parts["body"])


MANY_COLUMNS = 9
"""A table with more columns is set smaller."""


def table_html(markdown: str) -> Markup:
    """A table as :func:`isopose.reporting.tables.write` leaves it in Markdown, with its note, as HTML."""
    lines = markdown.strip().splitlines()
    cells = [[escape(cell.strip()) for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    note = " ".join(line for line in lines if not line.startswith("|")).strip()
    unbroken = [cell.replace("-", "\N{NON-BREAKING HYPHEN}") for cell in cells[0]]
    head = "".join(f'<th scope="col">{cell}</th>' for cell in unbroken)
    compact = ' class="compact"' if len(cells[0]) > MANY_COLUMNS else ""
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>\n"
        for row in cells[2:]
    )
    return Markup(
        f'<div class="wide"><table{compact}><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n'
        f'<p class="note">{escape(note)}</p>'
    )


def link(target: Path, page: Path) -> str:
    """Address of a file as seen from the page."""
    return Path(os.path.relpath(target, page.parent)).as_posix()


def item(path: Path, kind: str, forms: Mapping[str, str], body: Markup, captions: Path, page: Path) -> Item:
    """A table or figure of the page; folders between page and file that are more than their kind go into the title."""
    address = Path(link(path, page))
    title, text = caption(captions / f"{kind}_{path.stem}.rst")
    folders = [folder for folder in address.parts[:-1] if folder not in ("..", "tables", "figures")]
    title = f"{title} ({', '.join(folders)})" if folders else title
    links = {form: address.with_suffix(f".{suffix}").as_posix() for form, suffix in forms.items()}
    return Item("-".join([kind, *folders, path.stem]), title, text, body, links)


def table_item(path: Path, captions: Path, page: Path) -> Item:
    """A table, given by its CSV; the Markdown and LaTeX lie beside it."""
    body = table_html(path.with_suffix(".md").read_text(encoding="utf-8"))
    return item(path, "table", TABLE_FORMS, body, captions, page)


def figure_item(path: Path, captions: Path, page: Path) -> Item:
    """A figure, given by its SVG; the PNG lies beside it."""
    body = Markup('<img src="{}" alt="{}">').format(link(path, page), path.stem.replace("_", " "))
    return item(path, "figure", FIGURE_FORMS, body, captions, page)


TABLE_FORMS = {"CSV": "csv", "Markdown": "md", "LaTeX": "tex"}
FIGURE_FORMS = {"SVG": "svg", "PNG": "png"}


SUMMARY = {
    "mpjpe": ("MPJPE, mm", 1),
    "p_mpjpe": ("P-MPJPE, mm", 1),
    "n_mpjpe": ("N-MPJPE, mm", 1),
    "mpjve": ("MPJVE, mm/frame", 1),
    "acceleration_error": ("Accel. error, mm/frame²", 1),
    "pck": ("PCK at 150 mm, %", 100),
    "auc": ("AUC, %", 100),
}
"""Metrics of the summary: title, and factor for the reader."""


def summary_rows(metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """One line a set of predictions: each metric over actions, MPJPE over frames too, and how much was scored."""
    rows = []
    for label, values in metrics.items():
        low, high = values["mpjpe"]["interval"]
        row = {"": label}
        for metric, (title, factor) in SUMMARY.items():
            row[title] = f"{factor * values[metric]['actions']:.1f}"
            if metric == "mpjpe":
                row["95 % interval"] = f"{low:.1f} to {high:.1f}"
                row["MPJPE over frames, mm"] = f"{values[metric]['frames']:.1f}"
        rows.append(row | {"Frames": f"{values['frames']:,}", "Clips": f"{values['clips']:,}"})
    return rows


def cards(datasets: Iterable[str], page: Path) -> dict[str, str]:
    """Addresses of the datasets' cards, as seen from the page, by the datasets' names."""
    return {name: link(Path(f"docs/datasets/{name}.md"), page) for name in datasets}


def write_page(
    output: Path,
    about: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
    tables: Iterable[Path],
    figures: Iterable[Path],
    captions: Path,
    parameters: Path,
    records: Path,
    made: Mapping[str, str],
) -> None:
    """Fill the template and write the page."""
    environment = Environment(
        loader=PackageLoader("isopose.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        about=about,
        summary=summary_rows(metrics),
        absent=[absence | {"cards": cards(absence["datasets"], output)} for absence in about["absent"]],
        tables=[table_item(path, captions, output) for path in tables],
        figures=[figure_item(path, captions, output) for path in figures],
        parameters=link(parameters, output),
        records=link(records, output),
        made={name: value for name, value in made.items() if value},
    )
    write_text(output, page)


def revision() -> str:
    """The revision of the code for the reader, marked if the code was changed since; empty outside a repository."""
    tags = tracking.git_revision()
    return tags["git.revision"][:7] + "-dirty" * (tags["git.dirty"] == "true") if tags else ""


app = typer.Typer(add_completion=False)


@app.command()
def main(
    output: Path = typer.Option(..., help="The page (HTML)."),
    metrics: list[str] = typer.Option(..., help="metrics.json to sum up as label=path; repeat for each."),
    table: list[Path] = typer.Option(..., help="CSV of a table, its .md beside it; repeat, in the page's order."),
    figure: list[Path] = typer.Option(..., help="SVG of a figure; repeat, in the page's order."),
    captions: Path = typer.Option(..., help="Folder with a caption <name>.rst for each table and figure."),
    parameters: Path = typer.Option(..., help="The parameters of this run, linked from the page."),
    records: Path = typer.Option(..., help="Folder of the run records, linked from the page."),
    machine: str = typer.Option("", help="Kind of machine, shown where given."),
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Write the page of a track from its tables, figures and scores."""
    about = stage.parse_params(
        params,
        {"track": str, "kind": str, "datasets": list, "absent": list, "seeds": list, "command": str},
    )
    named = {label: read_json(path) for label, path in stage.parse_named(metrics, "--metrics").items()}
    made = {"Machine": machine, "Revision": revision()}
    write_page(output, about, named, table, figure, captions, parameters, records, made)


if __name__ == "__main__":
    stage.run(app)
