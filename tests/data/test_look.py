"""What is seen of a dataset on the Hub, or in shards, before a training begins."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from agit_hub.data.config import DomainConfig
from agit_hub.data.domains import parquet
from agit_hub.data.load import LoadedDomain, Loading, load_domain
from agit_hub.data.ordering import Order, ShuffledIndex
from agit_hub.errors import DataError, FetchError
from testing.hub_server import Hub
from tests.data.hub_store import NAME, REPO, TIMEOUT, cached
from tests.online import connect
from tests.training.hub_datasets import shard, tar

Files = dict[str, bytes]
FORMS = ["parquet", "tars", "files"]


@pytest.fixture(autouse=True)
def _online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")


def _png(top: int, kind: type = np.uint16) -> bytes:
    """Encode an image of a ramp from black to a value."""
    ramp = np.tile(np.linspace(0, top, 16), (16, 1)).astype(kind)
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "PNG")
    return file.getvalue()


def _as(form: str, images: Sequence[bytes]) -> Files:
    named = {f"{number}.png": data for number, data in enumerate(images)}
    if form == "files":
        return named
    if form == "tars":
        labels = {name.replace(".png", ".cls"): b"0" for name in named}
        return {"train-0.tar": tar(named | labels)}
    return {"0.parquet": shard({"a": images})}


def _look(order: Order | None = Order(), ranges: Any = None, **options: Any) -> LoadedDomain:  # noqa: B008
    return load_domain(
        DomainConfig(REPO, **options), Loading(16, TIMEOUT, ranges=ranges, order=order)
    )


@pytest.mark.parametrize("form", FORMS)
def test_load_domain_of_hub_infers_the_range_of_the_first_images(form: str, hub: Hub) -> None:
    hub.commit(REPO, _as(form, [_png(4000)] * 5))
    loaded = _look()
    assert loaded.value_range == (0, 4095)
    assert loaded.notes == (
        f"{NAME}: of the first 5 images taken: values of images with more than 8 bits run from 0 to "
        "4000: 0 is taken as black and 4095 as white (inferred, data.value_range sets another)",
    )
    assert loaded.domain.image(0, 0).getpixel((15, 0)) == (249, 249, 249)  # 4000 / 4095 * 255


@pytest.mark.parametrize("form", FORMS)
def test_load_domain_of_hub_with_8_bits_has_nothing_to_say(form: str, hub: Hub) -> None:
    hub.commit(REPO, _as(form, [_png(255, np.uint8)] * 5))
    loaded = _look()
    assert loaded.value_range is None and loaded.notes == ()
    assert loaded.survey is not None and loaded.survey.facts()["modes"] == {"L": 5}


def test_load_domain_of_hub_given_range_is_warned_of(hub: Hub) -> None:
    hub.commit(REPO, _as("parquet", [_png(4000)] * 5))
    (said, warning) = _look(ranges=((0, 1000), None)).notes
    assert "1000 as white (as data.value_range or the model says)" in said
    assert warning.startswith(f"{NAME}: of the first 5 images taken: warning: ")


def test_load_domain_of_hub_without_an_order_reads_no_image(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, _as("parquet", [_png(4000)] * 5))
    loaded = _look(order=None)
    assert (loaded.survey, loaded.value_range, loaded.notes) == (None, None, ())
    assert cached(tmp_path / "home") == []


@pytest.mark.parametrize("form", FORMS)
def test_load_domain_of_hub_counts_what_it_cannot_read(form: str, hub: Hub) -> None:
    frames = io.BytesIO()
    Image.new("L", (9, 9)).save(
        frames, "GIF", save_all=True, append_images=[Image.new("L", (9, 9), 9)]
    )
    hub.commit(REPO, _as(form, [_png(9, np.uint8), b"not an image", frames.getvalue()]))
    damaged, animated = _look().notes
    assert damaged.startswith(
        f"{NAME}: of the first 3 images taken: 1 damaged or mislabelled image skipped: no reader of "
        f"images accepts the content ({REPO}/"
    )
    assert ": of the first 3 images taken: 1 animated or multi-page file: the first" in animated


def _lists(rows: list[Any]) -> bytes:
    file = io.BytesIO()
    kind = pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    pq.write_table(pa.table({"a": pa.array(rows, kind)}), file)
    return file.getvalue()


def test_load_domain_of_hub_counts_lists_without_an_image(hub: Hub) -> None:
    image = {"bytes": _png(9, np.uint8), "path": None}
    hub.commit(REPO, {"0.parquet": _lists([[image, None], [image], [None]])})
    assert _look().notes == (
        f"{NAME}: of the first 4 images taken: 2 rows without an image skipped",
    )


def test_load_domain_of_hub_counts_all_rows_without_an_image_where_footers_do(hub: Hub) -> None:
    cells = [{"bytes": _png(9, np.uint8), "path": None}] * 40 + [{"bytes": None, "path": None}] * 9
    hub.commit(REPO, {"0.parquet": shard({"a": cells})})
    assert _look().notes == (f"{NAME}: 9 rows without an image skipped",)


def test_load_domain_of_hub_column_of_sounds_is_refused_after_few_shards(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", 40)
    hub.commit(REPO, {f"{number}.parquet": shard({"a": [b"RIFF"] * 40}) for number in range(9)})
    with pytest.raises(DataError) as raised:
        _look()
    assert str(raised.value) == (
        f"None of the first 32 images in column a of {NAME} can be read: are they images, and complete?"
    )
    assert 1 <= len(cached(tmp_path / "home")) <= 3


def test_load_domain_of_hub_few_damaged_images_in_front_are_no_reason_to_refuse(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", 3)  # one row group
    shards = [shard({"a": [data] * 3}) for data in (b"damaged", _png(9, np.uint8))]
    hub.commit(REPO, {f"{number}.parquet": data for number, data in enumerate(shards)})
    looks = [_look(Order(seed)) for seed in range(9)]
    assert {len(each.notes) for each in looks} == {0, 1}
    assert {each.notes[0][:60] for each in looks if each.notes} == {
        f"{NAME}: of the first 3 images taken: 3 damaged "[:60]
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shuffle", [True, False])
def test_load_domain_of_hub_looks_at_the_shard_with_which_the_training_begins(
    seed: int, shuffle: bool, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", 3)
    images = [_png(9, np.uint8)] * 6
    hub.commit(REPO, {f"{number}.parquet": shard({"a": images}) for number in range(5)})
    domain = _look(Order(seed, shuffle)).domain
    fetched = cached(tmp_path / "home")
    first = ShuffledIndex(domain, (seed, 0), shuffle).locate(0)
    assert [f"{domain.shards[first.block]}.parquet"] == fetched


def test_load_domain_of_hub_remote_keeps_nothing_of_what_it_sees(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, _as("parquet", [_png(4000)] * 5))
    assert _look(storage="remote").value_range == (0, 4095)
    assert cached(tmp_path / "home") == []


def test_load_domain_of_hub_leaves_tars_uncounted_for_resumed_runs(hub: Hub) -> None:
    hub.commit(REPO, _as("tars", [_png(9, np.uint8)] * 5))
    loaded = _look()
    assert loaded.survey is not None and len(loaded.survey.headers) == 5
    assert loaded.domain.length is None


def test_load_domain_of_local_shards_says_that_it_looked_at_some(tmp_path: Path) -> None:
    data = shard({"a": [_png(4000), b"damaged"] * 50})
    (tmp_path / "0.parquet").write_bytes(data)
    loaded = load_domain(DomainConfig(str(tmp_path)), Loading(16, 0))
    damaged, values = loaded.notes
    # Every third of a hundred rows, of which each second is damaged.
    assert ": of the 34 images looked at: 17 damaged or mislabelled images skipped" in damaged
    assert ": of the 34 images looked at: values of images with more than 8 bits" in values


@pytest.mark.parametrize(
    ("form", "arrive"),
    # The footers of two shards, as ranges, and one whole shard; or the first image.
    [("parquet", 3), ("files", 0)],
)
def test_load_domain_of_hub_stops_at_the_first_image_that_cannot_be_fetched(
    form: str, arrive: int, hub: Hub
) -> None:
    files = _as(form, [_png(9, np.uint8)] * 9)
    files |= {"1.parquet": shard({"a": [_png(8, np.uint8)] * 9})} if form == "parquet" else {}
    hub.commit(REPO, files)
    hub.fail("status", path="/resolve/", method="GET", times=None, after=arrive, status=503)
    with pytest.raises(FetchError, match="fetching"):
        load_domain(DomainConfig(REPO), Loading(16, 0, order=Order()))
    assert hub.faults_served == 1  # the others would each wait for as long
