"""Pushes a run's model in one commit, so that published weights and config always match."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard

from agit_hub.data.retry import RetryPolicy
from agit_hub.errors import PushError, PushRefusedError
from agit_hub.hub.card import GRID, PLOT, build_card, file_url
from agit_hub.hub.escape import python
from agit_hub.hub.gallery import GALLERY_FILES, write_gallery
from agit_hub.hub.notes import read_notes
from agit_hub.hub.plots import plot_attention
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from agit_hub.models.location import find_model, is_model
from agit_hub.runs import RunFolder, read_run

Answer = TypeVar("Answer")
Kind = Literal["model", "dataset"]

# Statuses of a concurrent commit, after which another attempt may succeed.
_OVERTAKEN = frozenset({409, 412})
_TOKEN = re.compile(r"hf_\w+")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
# Images of the card that pushes have ever written, and so remove where the new one has none.
_IMAGES = re.compile("|".join((re.escape(GRID), re.escape(PLOT), GALLERY_FILES.pattern)))


@dataclass(frozen=True)
class Target:
    """Where and how a model is published."""

    repo: str
    """`user/name`, or `name` for the token's own user."""
    license: str
    """As the Hub spells it: `mit`, `cc-by-4.0`, ..."""
    private: bool = False
    samples: bool = True
    """Whether to publish the sample grid, and so images of the training set."""
    branch: str | None = None
    """A branch other than `main`."""
    hub_timeout: float = 300
    """Seconds for which failing calls to the Hub are retried."""
    gallery: Path | None = None
    """A folder of images whose translations are shown instead of the sample grid; see `write_gallery`."""
    notes: Path | None = None
    """A Markdown file to add to the card."""
    dtype: torch.dtype | None = None
    """Dtype of the published weights; None keeps that of the run's."""


def push_run(run: Path, target: Target, message: str = "Upload model") -> str:
    """Publish a run's model with its card, and return the URL of its page.

    Raises:
        RunFolderError: If the folder holds nothing to publish.
        PushError: If the push fails.
    """
    with staged(run, target) as folder:
        return push_folder(folder, target, message)


@contextmanager
def staged(run: Path, target: Target) -> Iterator[Path]:
    """Yield a temporary folder with a copy of everything that is published of a run."""
    with tempfile.TemporaryDirectory(prefix="agit-push-") as place:
        write_repository(run, target, Path(place))
        yield Path(place)


def write_repository(run: Path, target: Target, folder: Path) -> None:
    """Write everything that is published of a run into a folder.

    Args:
        run: The run folder, or a model's folder in it; or any other model, which is published with the
            card it has.
        target: Where and how it is published.
        folder: The folder to write to.

    Raises:
        RunFolderError: If it is neither a run with a model nor a model.
    """
    run_folder = RunFolder.containing(run)
    is_repo = _REPO.fullmatch(str(run)) and not run.exists()
    notes = read_notes(target.notes) if target.notes else ""
    if run_folder is None and (is_repo or is_model(run)):
        _write_model(run, target, folder, notes)
        return
    record = read_run(run if run_folder is None else run_folder.path)
    if target.dtype is None:
        for file in record.model.iterdir():
            shutil.copy(file, folder)
    else:
        AGITModel.from_pretrained(record.model).save_pretrained(folder, dtype=target.dtype)
    gallery = None
    if target.gallery is not None:
        gallery = write_gallery(AGITPipeline.from_pretrained(folder), target.gallery, folder)
    samples = target.samples and gallery is None
    card = build_card(record, target.repo, target.license, samples, gallery, notes)
    (folder / "README.md").write_text(str(card), encoding="utf-8")
    if record.curve:
        plot_attention(record, folder / PLOT)
    if samples and record.grid is not None:
        shutil.copy(record.grid, folder / GRID)


def _write_model(source: Path, target: Target, folder: Path, notes: str) -> None:
    """Write a model that is not part of a run, with its own card and the card's images if it has one."""
    AGITModel.from_pretrained(source).save_pretrained(folder, dtype=target.dtype)
    files = find_model(source)
    if files is not None and (files.folder / "README.md").is_file():
        shutil.copy(files.folder / "README.md", folder)
        for image in files.folder.rglob("*"):
            name = image.relative_to(files.folder).as_posix()
            if _IMAGES.fullmatch(name) and image.is_file():
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copy(image, folder / name)
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=True)
    card.data.license = target.license
    (folder / "README.md").write_text(
        f"{card}\n{notes}\n" if notes else str(card), encoding="utf-8"
    )


def prepare_repo(target: Target) -> str:
    """Create the repo and branch if needed, and return the repo's full name.

    Raises:
        PushError: If that fails, for example for a wrong token.
    """
    calls = Calls(target.repo, target.hub_timeout)
    name = make_repo(calls, target.repo, target.private)
    if target.branch is not None:
        branch = target.branch
        calls(
            lambda: HfApi().create_branch(name, branch=branch, exist_ok=True),
            f"making the branch {branch}",
        )
    return name


def push_folder(folder: Path, target: Target, message: str) -> str:
    """Commit all files of a folder at once, and return the URL of the model's page.

    Raises:
        PushError: If the push fails; the repo is then unchanged.
    """
    name = prepare_repo(target)
    _name_in_card(folder / "README.md", target.repo, name)
    calls = Calls(target.repo, target.hub_timeout)
    return commit_all(calls, folder, name, message, branch=target.branch, replaced=_IMAGES)


def _name_in_card(card: Path, repo: str, name: str) -> None:
    """Complete the repository's name in a card by its user, which the Hub states when it is made."""
    if repo != name and card.is_file():
        text = card.read_text(encoding="utf-8")
        for write in (lambda each: f"from_pretrained({python(each)})", file_url):
            text = text.replace(write(repo), write(name))
        card.write_text(text, encoding="utf-8")


class Calls:
    """Calls the Hub client with retries, and raises errors that name the remedy and hide the token.

    Args:
        repo: For messages.
        hub_timeout: Seconds for which failing calls are retried.
    """

    def __init__(self, repo: str, hub_timeout: float = 300) -> None:
        self._retry = RetryPolicy(
            f"the repository {repo}",
            hub_timeout,
            timeout_error=PushError,
            permanent_error=PushRefusedError,
            remedy="",
            extra_statuses=_OVERTAKEN,
        )

    def __call__(self, action: Callable[[], Answer], doing: str) -> Answer:
        """Call `action` until it succeeds.

        Raises:
            PushError: If it fails for too long, or retrying cannot help.
        """
        try:
            return self._retry(action, doing)
        except PushError as error:
            # Without a cause: a traceback would show the request's headers, and so the token.
            raise type(error)(_TOKEN.sub("hf_...", str(error))) from None


def make_repo(calls: Calls, repo: str, private: bool, kind: Kind = "model") -> str:
    """Create a repository unless it exists, and return its full name."""
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
    replaced: re.Pattern[str] | None = None,
) -> str:
    """Commit every file of a folder in one commit, and return the URL of the repo's page.

    Args:
        calls: To the Hub.
        folder: The files.
        repo: `user/name`.
        message: The commit's.
        branch: `main` by default.
        kind: Of the repository.
        replaced: Files of the repository to delete in the same commit if the folder has none of their
            name: what an earlier push has left, whose whole path matches.
    """
    api, revision = HfApi(), branch or "main"
    files = {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }

    def commit() -> str:
        # Created for each attempt: an operation stores the state of its upload.
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(name, str(file)) for name, file in files.items()
        ]
        head = None
        if replaced is not None:
            head = api.repo_info(repo, revision=revision, repo_type=kind).sha
            there = api.list_repo_files(repo, revision=head, repo_type=kind)
            gone = (name for name in there if name not in files and replaced.fullmatch(name))
            operations += [CommitOperationDelete(name) for name in gone]
        api.create_commit(
            repo,
            operations,
            commit_message=message,
            revision=revision,
            repo_type=kind,
            # Of a concurrent push nothing is left either: the Hub refuses, and the attempt is repeated.
            parent_commit=head,
        )
        return f"{api.endpoint}/{'' if kind == 'model' else 'datasets/'}{repo}"

    return calls(commit, "uploading")
