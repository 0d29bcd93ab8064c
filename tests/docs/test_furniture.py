"""Files around the code: workflows, forms, citation, the script's metadata and the Dockerfile."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import agit_hub
from tests.docs.commands import MAKE_TARGETS, PROJECT, ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(
    set((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) - {GITHUB / "ISSUE_TEMPLATE/config.yml"}
)
# To YAML 1.1 the key `on` of a workflow is a truth value.
ON = True
# Of GitHub's syntax for issue forms.
FORM_FIELDS = {"checkboxes", "dropdown", "input", "markdown", "textarea"}
# The expression with which PEP 723 defines a script's metadata.
METADATA = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"


def _read(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_runs_what_exists(path: Path) -> None:
    workflow = _read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow[ON]
    for job in workflow["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert "@" in step.get("uses", "@")
            for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", "")):
                assert target in MAKE_TARGETS
            if step.get("run", "").startswith(".ci/"):
                assert (ROOT / step["run"]).is_file()


def test_workflow_of_tests_covers_the_versions_of_python() -> None:
    (job,) = _read(GITHUB / "workflows" / "tests.yml")["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == ">=3.11"


def test_workflow_of_releases_publishes_without_a_token() -> None:
    jobs = _read(GITHUB / "workflows" / "release.yml")["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (GITHUB / "workflows" / "release.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form_has_what_github_requires(path: Path) -> None:
    form = _read(path)
    assert form["name"] and form["description"]
    names = [field.get("id") for field in form["body"] if field["type"] != "markdown"]
    assert len(set(names)) == len(names) and all(names)
    for field in form["body"]:
        assert field["type"] in FORM_FIELDS
        assert field["attributes"]["value" if field["type"] == "markdown" else "label"]


def test_other_files_of_github_are_valid_yaml() -> None:
    for path in GITHUB.rglob("*.yml"):
        _read(path)


def test_citation_names_this_version_and_the_paper() -> None:
    citation = _read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == agit_hub.__version__
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert paper["authors"][0]["family-names"] == "Mejjati"
    assert paper["url"] == PROJECT["urls"]["Paper"] and paper["year"] == 2018


def test_script_metadata_installs_this_checkout() -> None:
    script = ROOT / "train_accelerate.py"
    (found,) = re.finditer(METADATA, script.read_text(encoding="utf-8"))
    lines = found["content"].splitlines()
    metadata = tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines))
    assert found["type"] == "script"
    assert metadata["requires-python"] == PROJECT["requires-python"]
    assert metadata["dependencies"] == [f"{PROJECT['name']}[train]"]
    source = metadata["tool"]["uv"]["sources"][PROJECT["name"]]
    assert (script.parent / source["path"]).resolve() == ROOT


def test_dockerfile_copies_what_the_wheel_is_built_of() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {name for line in re.findall(r"^COPY (.*)$", text, re.M) for name in line.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored and {f"!{name}" for name in copied} <= set(ignored)
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    wheel = wheel["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml"}
    assert needed | {PROJECT["readme"], *PROJECT["license-files"]} <= copied
    (extras,) = re.findall(r'^ARG EXTRAS="(.*)"$', text, re.M)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert "USER agit" in text and 'ENTRYPOINT ["agit"]' in text
