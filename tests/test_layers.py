"""Modules import from lower levels only, and light modules do not import heavy packages."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import agit_hub

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "agit_hub"

# From the bottom up. A module imports from lower levels, and from its own subpackage.
LEVELS = (
    {"errors", "logging"},
    {"environment", "fonts", "image_metadata", "shipped"},
    {"atomic"},
    {"config", "visualization", "evaluation.results"},
    {"runs"},
    {"run_page"},
    {"models.layers", "models.backbone", "models.equations"},
    {"losses", "models", "data"},
    {
        *("inference.image_processor", "inference.attention_maps", "inference.object_selection"),
        "inference.edits",
    },
    {"data.loader"},
    {"backends"},
    {"inference"},
    {"demo"},
    {"evaluation"},
    {"hub"},
    {"training"},
    {"space"},
    {"cli"},
)
# The package imports its public names lazily, and `__main__` starts the command line.
ENTRY_POINTS = {"agit_hub", "agit_hub.__main__"}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imports(path: Path) -> set[str]:
    """Return every module that a file imports, at the top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _own(path: Path) -> set[str]:
    """Return the modules of this package that a file imports."""
    return {
        name if name in FILES else name.rpartition(".")[0]
        for name in _imports(path)
        if name.split(".")[0] == "agit_hub"
    }


def _level(module: str) -> int:
    _, *parts = module.split(".")
    for name in (".".join(parts[:2]), parts[0]):
        for number, level in enumerate(LEVELS):
            if name in level:
                return number
    raise AssertionError(f"{module} has no level: add it to LEVELS in {Path(__file__).name}")


def test_imports_of_known_modules_are_found() -> None:
    assert {"agit_hub.models.agit", "agit_hub.data.shapes", "agit_hub.training.step"} <= set(FILES)
    assert "agit_hub.models.generator" in _own(FILES["agit_hub.models.agit"])


@pytest.mark.parametrize("module", sorted(FILES.keys() - ENTRY_POINTS))
def test_module_imports_from_lower_levels_only(module: str) -> None:
    for imported in _own(FILES[module]):
        assert imported in FILES, f"{module} imports {imported}, which does not exist"
        if imported == "agit_hub":  # for its version
            continue
        if imported.split(".")[1] != module.split(".")[1]:
            assert imported not in ENTRY_POINTS
            assert _level(imported) < _level(module), f"{module} imports {imported}"


def test_module_imports_have_no_cycle() -> None:
    graph = {name: _own(path) - {name} for name, path in FILES.items() if name not in ENTRY_POINTS}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


# Modules that read datasets, which need the extra `train`; drawing shapes and decoding images do not.
READING = {name for name in FILES if name.startswith("agit_hub.data.")} - {
    f"agit_hub.data.{name}" for name in ("config", "images", "listing", "masks", "shapes")
}
# Packages that may import them: agit-hub[eval] includes agit-hub[train].
READERS = ("agit_hub.data", "agit_hub.evaluation", "agit_hub.cli.evaluate", "agit_hub.cli.inspect")


@pytest.mark.parametrize("module", sorted(n for n in FILES if ".training" not in n))
def test_module_outside_training_imports_no_package_of_an_extra(module: str) -> None:
    roots = {name.split(".")[0] for name in _imports(FILES[module])}
    assert not roots & {"accelerate", "tqdm", "jsonargparse"}
    assert not roots & {"gradio", "spaces", "cachetools"} or ".space" in module
    if module not in {"agit_hub.runs", *READING} and not module.startswith("agit_hub.hub"):
        assert not roots & {"datasets", "pyarrow", "tenacity", "yaml", "matplotlib"}
        assert not _own(FILES[module]) & READING or module.startswith(READERS)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("agit_hub", {"torch", "numpy", "PIL", "huggingface_hub", "safetensors"}),
        # Help and errors of a command line must not wait for these imports.
        ("agit_hub.runs", {"torch", "numpy", "huggingface_hub"}),
        ("agit_hub.training.config_loader", {"torch", "accelerate", "datasets"}),
        ("agit_hub.cli.train", {"torch", "accelerate", "datasets"}),
        ("agit_hub.cli", {"torch", "numpy", "PIL", "huggingface_hub"}),
        # It imports the pipeline, the models and the data, but not training.
        (
            "agit_hub.evaluation.report",
            {"accelerate", "datasets", "jsonargparse", "agit_hub.training"},
        ),
    ],
)
def test_module_import_does_not_import_heavy_packages(module: str, absent: set[str]) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(ran.stdout.split())
    assert module in loaded and not loaded & absent


def test_package_exports_public_names_lazily() -> None:
    assert set(agit_hub.__all__) == set(dir(agit_hub))
    names = {"AGITConfig", "AGITModel", "AGITPipeline", "AttentionEdits", "TranslationOutput"}
    for name in names | {"Evaluator", "TrainConfig", "Trainer"}:
        assert name in agit_hub.__all__
        assert getattr(agit_hub, name).__name__ == name
    with pytest.raises(AttributeError, match="Train"):
        _ = agit_hub.Train
