"""The command `inspect`: what would be read from datasets, without training."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agit_hub.cli.app import Revision, app, end, show_user_errors
from agit_hub.cli.dataset_option import DATASET, parse_dataset
from agit_hub.errors import DataError, UserError

if TYPE_CHECKING:
    from agit_hub.data.config import DomainConfig
    from agit_hub.data.load import LoadedDomain

_TIMEOUT = 300.0


@app.command()
@show_user_errors
def inspect(
    paths: Annotated[
        list[str],
        typer.Argument(metavar=f"{DATASET}...", help="One dataset, or source and target."),
    ],
    name: Annotated[str | None, typer.Option(help="Config of the dataset.")] = None,
    split: Annotated[str | None, typer.Option(help="Split.  [default: train]")] = None,
    column: Annotated[str | None, typer.Option(help="Image column.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column that separates domains.")] = None,
    label_value: Annotated[str | None, typer.Option(help="Images with this label.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="A folder inside the path.")] = None,
    revision: Revision = None,
    out: Annotated[Path, typer.Option(help="A PNG for a contact sheet of the images.")] = Path(
        "inspect.png"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a training would read: images, sizes, labels, splits, and what is left out and why.

    With two paths, or one that holds two domains, it says whether they can be trained on. The options
    are keys of both datasets; a path can also have its own: photos,split=test.

    Example: agit inspect horses zebras --out sheet.png
    """
    if len(paths) > 2:
        raise UserError(
            f"{len(paths)} paths are given; expected one dataset, or source and target."
        )
    options = {
        "name": name,
        "split": split,
        "column": column,
        "label_column": label_column,
        "label_value": label_value,
        "data_dir": data_dir,
        "revision": revision,
    }
    unset = {key: value for key, value in options.items() if value is not None}
    configs = [parse_dataset(path, "The path", masks=True, **unset) for path in paths]
    loaded, problem = _load(configs)
    report = _report(loaded, problem, None if not loaded else out)
    if as_json:
        print(json.dumps(report, indent=2, ensure_ascii=True))
    else:
        print("\n".join(_lines(report)))
    if problem is not None and (len(paths) == 2 or not loaded):
        end(problem, problem.exit_code)


def _load(configs: "list[DomainConfig]") -> "tuple[list[LoadedDomain], DataError | None]":
    """Load both domains; or what can be loaded, and why they are not a pair."""
    from agit_hub.data.load import Loading, load_domain, load_domains
    from agit_hub.data.ordering import Order

    try:
        return [*load_domains(configs[0], configs[-1], None, _TIMEOUT, order=Order())], None
    except DataError as error:
        problem = error
    loaded = []
    for config in configs:
        try:
            loaded.append(load_domain(config, Loading(None, _TIMEOUT, order=Order())))
        except DataError as error:
            problem = problem if len(configs) == 2 else error
    return loaded, problem


def _report(
    loaded: "list[LoadedDomain]", problem: DataError | None, out: Path | None
) -> dict[str, Any]:
    from agit_hub.atomic import atomic_path
    from agit_hub.data.report import contact_sheet, describe_domain

    names = ("source", "target") if len(loaded) == 2 else ("images",)
    domains = [
        {"domain": name, **describe_domain(each)} for name, each in zip(names, loaded, strict=False)
    ]
    if out is not None:
        titles = [f"{each['domain']}: {each['images']} images" for each in domains]
        sheet = contact_sheet(list(zip(titles, loaded, strict=True)))
        with atomic_path(out) as unfinished:
            sheet.save(unfinished, "PNG")
    return {
        "trainable": problem is None,
        "problem": None if problem is None else str(problem),
        "domains": domains,
        "contact_sheet": None if out is None else str(out),
    }


def _lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for each in report["domains"]:
        count = "an unknown number of" if each["images"] is None else each["images"]
        lines += [f"{each['domain']}: {count} images from {each['from']}"]
        if each["masks"] is not None:
            lines += [f"  masks: {_masks(each['masks'])}"]
        for key in ("sizes", "modes", "formats", "splits"):
            if each.get(key):
                lines.append(f"  {key}: {_counts(each[key])}")
        for key in ("configs", "image_columns", "tables"):
            if each.get(key):
                lines.append(f"  {key.replace('_', ' ')}: {', '.join(each[key])}")
        for name, values in each.get("labels", {}).items():
            shown = f"{values} values" if isinstance(values, int) else ", ".join(values)
            lines.append(f"  label column {name}: {shown}")
        lines += [f"  {note}" for note in each["notes"]]
    if report["contact_sheet"]:
        lines.append(f"Contact sheet: {report['contact_sheet']}")
    if report["trainable"]:
        lines.append("These two domains can be trained on.")
    elif report["domains"]:
        lines.append(f"Not two domains to train on: {report['problem']}")
    return lines


def _masks(count: dict[str, Any]) -> str:
    found = "an uncounted number" if count["found"] is None else count["found"]
    return f"{found} of {count['images']} images ({count['place']})"


def _counts(counts: dict[str, int]) -> str:
    shown = list(counts.items())
    more = f", and {len(shown) - 8} more" if len(shown) > 8 else ""
    return ", ".join(f"{name} ({number})" for name, number in shown[:8]) + more
