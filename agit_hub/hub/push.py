"""Pushes of a run's model: everything in one commit, so that weights and config never disagree."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from huggingface_hub import CommitOperationAdd, HfApi

from agit_hub.data.retry import RetryPolicy
from agit_hub.errors import PushError, PushRefusedError
from agit_hub.hub.card import GRID, PLOT, build_card
from agit_hub.hub.plots import plot_attention
from agit_hub.runs import RunRecord, read_run

Answer = TypeVar("Answer")
Kind = Literal["model", "dataset"]

# Answers that another attempt may mend: somebody else's commit came first.
_OVERTAKEN = frozenset({409, 412})
_TOKEN = re.compile(r"hf_\w+")


@dataclass(frozen=True)
class Target:
    """Where and how a model is published."""

    repo: str
    """`user/name`, or `name` for the token's own user."""
    license: str
    """As the Hub spells it: `mit`, `cc-by-4.0`, ..."""
    private: bool = False
    samples: bool = True
    """Whether the sample grid, and so pictures of the training set, is published."""
    branch: str | None = None
    """Another branch than `main`."""
    patience: float = 300
    """Seconds for which a bad network is put up with."""


def push_run(run: Path, target: Target, message: str = "Upload model") -> str:
    """Publish a run's model with its card.

    Args:
        run: The run's folder.
        target: Where to.
        message: Of the commit.

    Returns:
        The address of the model's page.

    Raises:
        RunFolderError: If the folder holds nothing to publish.
        PushError: If it did not succeed.
    """
    with staged(run, target) as folder:
        return push_folder(folder, target, message)


@contextmanager
def staged(run: Path, target: Target) -> Iterator[Path]:
    """A folder with what is published of a run, as it is now; removed afterwards."""
    facts = read_run(run)
    with tempfile.TemporaryDirectory(prefix="agit-push-") as place:
        folder = Path(place)
        for file in facts.model.iterdir():
            shutil.copy(file, folder)
        write_card(facts, target, folder)
        yield folder


def write_card(run: RunRecord, target: Target, folder: Path) -> None:
    """Write a run's card, and the pictures that it shows, into a folder."""
    card = build_card(run, target.repo, target.license, target.samples)
    (folder / "README.md").write_text(str(card), encoding="utf-8")
    if run.curve:
        plot_attention(run, folder / PLOT)
    if target.samples and run.grid is not None:
        shutil.copy(run.grid, folder / GRID)


def prepare_repo(target: Target) -> str:
    """Make the repo, or find it, so that a wrong token is found out before a training.

    Returns:
        Its full name.

    Raises:
        PushError: If that cannot be done.
    """
    calls = Calls(target.repo, target.patience)
    name = make_repo(calls, target.repo, target.private)
    if target.branch is not None:
        branch = target.branch
        calls(
            lambda: HfApi().create_branch(name, branch=branch, exist_ok=True),
            f"making the branch {branch}",
        )
    return name


def push_folder(folder: Path, target: Target, message: str) -> str:
    """Commit all files of a folder at once.

    Returns:
        The address of the model's page.

    Raises:
        PushError: If it did not succeed; then the repo is as it was.
    """
    name = prepare_repo(target)
    calls = Calls(target.repo, target.patience)
    return commit_all(calls, folder, name, message, branch=target.branch)


class Calls:
    """Calls of the client, patient with bad networks, with errors that say what to do.

    Args:
        repo: For messages.
        patience: Seconds for which a bad network is put up with.
    """

    def __init__(self, repo: str, patience: float = 300) -> None:
        self._patience = RetryPolicy(
            f"the repository {repo}",
            patience,
            gave_up=PushError,
            refused=PushRefusedError,
            remedy="",
            also=_OVERTAKEN,
        )

    def __call__(self, action: Callable[[], Answer], doing: str) -> Answer:
        """Do it until it succeeds.

        Raises:
            PushError: If it does not.
        """
        try:
            return self._patience(action, doing)
        except PushError as error:
            # No cause: a traceback would show the request, and its headers the token.
            raise type(error)(_TOKEN.sub("hf_...", str(error))) from None


def make_repo(calls: Calls, repo: str, private: bool, kind: Kind = "model") -> str:
    """Make a repository, or find it.

    Returns:
        Its full name.
    """
    url = calls(
        lambda: HfApi().create_repo(repo, private=private, exist_ok=True, repo_type=kind),
        "making it",
    )
    return url.repo_id


def commit_all(
    calls: Calls,
    folder: Path,
    repo: str,
    message: str,
    branch: str | None = None,
    kind: Kind = "model",
) -> str:
    """Commit every file of a folder in one commit, so that the repo is never half of anything.

    Returns:
        The address of the repo's page.
    """
    api = HfApi()
    files = sorted(file for file in folder.rglob("*") if file.is_file())

    def commit() -> str:
        # Anew each time: an operation remembers what became of its upload.
        operations = [
            CommitOperationAdd(file.relative_to(folder).as_posix(), str(file)) for file in files
        ]
        api.create_commit(
            repo, operations, commit_message=message, revision=branch or "main", repo_type=kind
        )
        return f"{api.endpoint}/{'' if kind == 'model' else 'datasets/'}{repo}"

    return calls(commit, "uploading")
