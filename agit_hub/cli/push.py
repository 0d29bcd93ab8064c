"""The commands `push` and `push-data`: publish models and datasets on the Hub."""

from pathlib import Path
from typing import Annotated

import typer

from agit_hub.cli.app import Dtype, app, show_user_errors
from agit_hub.environment import check_writable, require_extra

Run = Annotated[Path, typer.Argument(help="A run, a model's folder or file, or a Hub repo.")]
Repo = Annotated[str, typer.Option(help="user/name, or name for your own user.")]
License = Annotated[
    str, typer.Option(help="mit, cc-by-4.0, ... The images' licence decides which are possible.")
]
Private = Annotated[bool, typer.Option(help="Make the repository private, if it is new.")]


@app.command()
@show_user_errors
def push(
    run: Run,
    repo: Repo,
    license: License,
    private: Private = False,
    samples: Annotated[
        bool, typer.Option(help="Publish the sample grid, which shows images of the training set.")
    ] = True,
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="Translate and show the images in this folder's folders source and target instead."
        ),
    ] = None,
    notes: Annotated[
        Path | None,
        typer.Option(help="A Markdown file to add to the card: authors, licences, ..."),
    ] = None,
    dtype: Annotated[
        Dtype, typer.Option(help="Precision of the weights; float16 halves the file.")
    ] = "float32",
    revision: Annotated[str | None, typer.Option(help="A branch.  [default: main]")] = None,
    message: Annotated[str, typer.Option(help="The commit message.")] = "Upload model",
    out: Annotated[
        Path | None,
        typer.Option(help="Write the repository's files to this folder, and publish nothing."),
    ] = None,
) -> None:
    """Publish a run's model and its card on the Hub.

    Example: agit push runs/h2z --repo user/agit-horse2zebra --license cc-by-4.0
    """
    import torch

    require_extra("train")
    if out is not None:
        check_writable(out, "--out")
    from agit_hub.hub.push import Target, push_run, write_repository

    weights = torch.float16 if dtype == "float16" else None
    target = Target(
        repo,
        license,
        private,
        samples,
        branch=revision,
        gallery=gallery,
        notes=notes,
        dtype=weights,
    )
    if out is None:
        print(f"Published: {push_run(run, target, message)}")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_repository(run, target, out)
    print(f"Written: {out}")


@app.command()
@show_user_errors
def push_data(
    source: Annotated[Path, typer.Argument(help="A folder of source images.")],
    target: Annotated[Path, typer.Argument(help="A folder of target images.")],
    repo: Repo,
    license: License,
    source_label: Annotated[
        str | None, typer.Option(help="What source images show.  [default: the folder's name]")
    ] = None,
    target_label: Annotated[
        str | None, typer.Option(help="What target images show.  [default: the folder's name]")
    ] = None,
    private: Private = False,
    keep_location: Annotated[
        bool,
        typer.Option(
            "--keep-location", help="Keep where photographs were taken in their metadata."
        ),
    ] = False,
    shard_megabytes: Annotated[int, typer.Option(min=1, help="Size of a shard.")] = 128,
) -> None:
    """Publish two folders of images as one dataset on the Hub, in parquet shards.

    Data of earlier pushes are removed from the repository, except from its history.

    Example: agit push-data horses zebras --repo user/horse2zebra --license cc-by-4.0
    """
    require_extra("train")
    from agit_hub.hub.push_dataset import push_pair

    folders = {source_label or source.resolve().name: source}
    folders[target_label or target.resolve().name] = target
    url = push_pair(folders, repo, license, private, shard_megabytes * 10**6, keep_location)
    print(f"Published: {url}")
