"""The commands `push`, `card` and `push-data`: publish models and datasets on the Hub."""

from pathlib import Path
from typing import Annotated

import typer

from agit_hub.cli.app import app, show_user_errors

Run = Annotated[Path, typer.Argument(help="A run folder.")]
Repo = Annotated[str, typer.Option(help="user/name, or name for your own user.")]
License = Annotated[
    str, typer.Option(help="mit, cc-by-4.0, ... The images' licence decides which are possible.")
]
Samples = Annotated[
    bool, typer.Option(help="Publish the sample grid, which shows images of the training set.")
]
Private = Annotated[bool, typer.Option(help="Make the repository private, if it is new.")]


@app.command()
@show_user_errors
def push(
    run: Run,
    repo: Repo,
    license: License,
    private: Private = False,
    samples: Samples = True,
    revision: Annotated[str | None, typer.Option(help="A branch.  [default: main]")] = None,
    message: Annotated[str, typer.Option(help="The commit message.")] = "Upload model",
) -> None:
    """Publish a run's model and its card on the Hub.

    Example: agit push runs/h2z --repo user/agit-horse2zebra --license cc-by-4.0
    """
    from agit_hub.hub.push import Target, push_run

    target = Target(repo, license, private, samples, revision)
    print(f"Published: {push_run(run, target, message)}")


@app.command()
@show_user_errors
def card(
    run: Run,
    out: Annotated[Path, typer.Option(help="A folder for the card and its images.")],
    repo: Repo,
    license: License,
    samples: Samples = True,
) -> None:
    """Write a run's model card without publishing it.

    Example: agit card runs/h2z --out card --repo user/agit-horse2zebra --license cc-by-4.0
    """
    from agit_hub.hub.push import Target, write_card
    from agit_hub.runs import read_run

    record = read_run(run)
    out.mkdir(parents=True, exist_ok=True)
    write_card(record, Target(repo, license, samples=samples), out)
    print(f"Card: {out / 'README.md'}")


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
    shard_megabytes: Annotated[int, typer.Option(min=1, help="Size of a shard.")] = 128,
) -> None:
    """Publish two folders of images as one dataset on the Hub, in parquet shards.

    Example: agit push-data horses zebras --repo user/horse2zebra --license cc-by-4.0
    """
    from agit_hub.hub.push_dataset import push_pair

    folders = {source_label or source.resolve().name: source}
    folders[target_label or target.resolve().name] = target
    url = push_pair(folders, repo, license, private, shard_megabytes * 10**6)
    print(f"Published: {url}")
