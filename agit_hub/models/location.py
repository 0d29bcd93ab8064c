"""Which files a model's name means: a folder, a run folder, a weights file, or a repo on the Hub."""

from pathlib import Path
from typing import NamedTuple

from agit_hub.environment import expand_home
from agit_hub.errors import ModelLoadError
from agit_hub.runs import RunFolder
from agit_hub.shipped import shipped_models

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


class ModelFiles(NamedTuple):
    """A model on this machine."""

    folder: Path
    weights: str = WEIGHTS_FILE
    """Name of the weights' file in the folder."""

    def path(self, filename: str) -> Path:
        """Return the path of a file of the model.

        Raises:
            ModelLoadError: If there is none.
        """
        path = self.folder / filename
        if not path.exists():
            raise ModelLoadError(f"{self.folder} has no {filename}: not an AGIT model.")
        return path

    @property
    def name(self) -> str:
        """What tells this model from others: of a run its folder's name, as all models are `model`."""
        run = RunFolder.containing(self.folder)
        if run is None:
            return self.folder.resolve().name
        name = run.path.resolve().name
        return f"{name} (best)" if self.folder.name == run.best.name else name


def is_model(path: Path) -> bool:
    """Return whether a path is a model's folder, or a file in one."""
    folder = path.parent if path.is_file() else path
    return (folder / CONFIG_FILE).is_file()


def find_model(source: str | Path) -> ModelFiles | None:
    """Return the files that a path names, or None if there is no such path: then it is a repo.

    Args:
        source: A folder with a model, a run folder, or a file in a model's folder; or the name of a model
            that ships with the project, such as `agit-horse2zebra`.

    Raises:
        ModelLoadError: If the path exists and is none of these.
    """
    path = expand_home(source)
    if path.is_file():
        if path.suffix not in (".safetensors", ".json"):
            raise ModelLoadError(
                f"{path} is not a model's file: name its folder, or {WEIGHTS_FILE}."
            )
        return ModelFiles(path.parent, path.name if path.suffix == ".safetensors" else WEIGHTS_FILE)
    if not path.is_dir():
        # A repo's name has a slash, those of the models that ship have none.
        shipped = shipped_models().get(str(source))
        return None if shipped is None else ModelFiles(shipped)
    run = RunFolder(path)
    if (path / CONFIG_FILE).exists() or not run.exists:
        return ModelFiles(path)
    if not (run.model / WEIGHTS_FILE).is_file():
        raise ModelLoadError(
            f"{path} holds no model yet: one is written at the first checkpoint "
            "(train.checkpointing_steps)."
        )
    return ModelFiles(run.model)
