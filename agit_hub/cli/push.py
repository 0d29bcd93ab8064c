"""The commands `push`, `card` and `push-data`: publish what was trained, and its pictures."""

from pathlib import Path
from typing import Annotated

import typer

from agit_hub.cli.app import Errors, app, show_user_errors

Repo = Annotated[str, typer.Option(help="Where to: user/name, or name for your own.")]
License = Annotated[
    str,
    typer.Option(
        help="As the Hub spells it: mit, cc-by-4.0, ... The licence of the pictures decides."
    ),
]
Samples = Annotated[
    bool, typer.Option(help="Show the sample grid: pictures of the training set are published.")
]
Private = Annotated[bool, typer.Option(help="Make the repository private, if it is new.")]


def _errors() -> tuple[Errors, Errors]:
    from agit_hub.errors import DatasetError, PushError, RunFolderError

    return (RunFolderError, DatasetError), (PushError,)


_in_a_sentence = show_user_errors("agit-hub[train]", _errors)


@app.command()
@_in_a_sentence
def push(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    repo: Repo,
    license: License,
    private: Private = False,
    samples: Samples = True,
    branch: Annotated[str | None, typer.Option(help="Another branch than main.")] = None,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "Upload model",
) -> None:
    """Publish a run's model, with a card that says how it was made and what was measured."""
    from agit_hub.hub.push import Target, push_run

    target = Target(repo, license, private, samples, branch)
    print(f"Published: {push_run(run, target, message)}")


@app.command()
@_in_a_sentence
def card(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    out: Annotated[Path, typer.Option(help="A folder for the card and its pictures.")],
    repo: Repo,
    license: License,
    samples: Samples = True,
) -> None:
    """Write a run's card without publishing it, to look at first."""
    from agit_hub.hub.push import Target, write_card
    from agit_hub.runs import read_run

    facts = read_run(run)
    out.mkdir(parents=True, exist_ok=True)
    write_card(facts, Target(repo, license, samples=samples), out)
    print(f"Card: {out / 'README.md'}")


@app.command()
@_in_a_sentence
def push_data(
    source: Annotated[Path, typer.Argument(help="A folder of pictures, and its subfolders.")],
    target: Annotated[Path, typer.Argument(help="The other.")],
    repo: Repo,
    license: License,
    source_label: Annotated[
        str | None, typer.Option(help="What the first shows; the folder's name if left out.")
    ] = None,
    target_label: Annotated[str | None, typer.Option(help="Likewise of the second.")] = None,
    private: Private = False,
    shard_megabytes: Annotated[int, typer.Option(min=1, help="How large a shard becomes.")] = 128,
) -> None:
    """Make two folders of pictures a dataset on the Hub, in shards that stream well."""
    from agit_hub.hub.push_dataset import push_pair

    folders = {source_label or source.resolve().name: source}
    folders[target_label or target.resolve().name] = target
    url = push_pair(folders, repo, license, private, shard_megabytes * 10**6)
    print(f"Published: {url}")
