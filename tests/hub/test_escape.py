"""People's text through the cards: read back by YAML, Markdown, Python and a shell."""

import ast
import re
import shlex
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from agit_hub.config import AGITConfig
from agit_hub.errors import ConfigError
from agit_hub.evaluation.results import MetricResult
from agit_hub.hub.card import build_card
from agit_hub.hub.escape import code, fence, markdown, python, shell
from agit_hub.hub.gallery import Example, Gallery
from agit_hub.hub.push_dataset import Split, dataset_card
from agit_hub.runs import RunRecord, read_run
from tests.hub.conftest import MakeRun

# What means something to Markdown, HTML, YAML, Python or a shell; and some that means nothing.
_PARTS = st.sampled_from(
    [*"|`*_~#$&<>[]()!\\\"'{}:-+=.,;%@?/ 1aZ", "```", "**", "<b>", "&amp;", "{{ x }}", "---", "\u9a6c",
     "\U0001f993", "\u200d", "\xa0", "null", "yes", "1. ", "](x)", "$$", "#}", "\\n", "<!--"]
)  # fmt: skip
TEXT = st.lists(_PARTS, min_size=1, max_size=8).map("".join).filter(lambda text: text.strip())
_FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_PARSER = MarkdownIt("commonmark").enable("table").enable("strikethrough")


def _shown(tokens: list[Token]) -> str:
    """Return the text that a reader sees of inline Markdown; anything but text and code is an error."""
    shown = ""
    for token in tokens:
        assert token.type in ("text", "code_inline"), token.type
        shown += token.content
    return shown


def _cells(text: str) -> list[list[str]]:
    """Return the cells of every row of a table, as a reader sees them."""
    rows: list[list[str]] = []
    in_table = False
    for token in _PARSER.parse(text):
        in_table = token.type == "table_open" or (in_table and token.type != "table_close")
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and in_table:
            rows[-1].append(_shown(token.children or []))
    return rows


@_FUZZ
@given(TEXT)
def test_markdown_shows_the_text_in_lines_headings_and_cells(text: str) -> None:
    wanted = text.strip()
    for before in ("", "# ", "a "):
        (inline,) = (
            token
            for token in _PARSER.parse(f"{before}{markdown(wanted)}")
            if token.type == "inline"
        )
        assert (
            _shown(inline.children or []).strip() == f"{before.removeprefix('# ')}{wanted}".strip()
        )
    table = f"| a | b |\n|---|---|\n| {markdown(wanted)} | {code(wanted)} |"
    assert _cells(table)[1] == [wanted, wanted]


@_FUZZ
@given(TEXT)
def test_python_and_shell_read_the_text_back(text: str) -> None:
    assert ast.literal_eval(python(text)) == text
    assert shlex.split(f"a {shell(text)} b") == ["a", text, "b"]


@_FUZZ
@given(TEXT)
def test_fence_is_closed_by_itself_only(text: str) -> None:
    block = f"{fence(text)}yaml\n{text}\n{fence(text)}\nend"
    kinds = [token.type for token in _PARSER.parse(block)]
    assert kinds == ["fence", "paragraph_open", "inline", "paragraph_close"]


def _headings(text: str) -> list[str]:
    """Return the headings as a reader sees them."""
    tokens = _PARSER.parse(text)
    starts = (at for at, token in enumerate(tokens) if token.type == "heading_open")
    return [" ".join(_shown(tokens[at + 1].children or []).split()) for at in starts]


def _table_columns(text: str) -> set[int]:
    body = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text)
    return {len(row) for row in _cells(body)}


@pytest.fixture
def record(make_run: MakeRun) -> RunRecord:
    return read_run(make_run())


@_FUZZ
@given(TEXT, TEXT)
def test_card_holds_labels_as_they_are(record: RunRecord, source: str, target: str) -> None:
    if source == target:
        return
    direction = f"{source} to {target}"
    model = record.config["model"] | {"source_label": source, "target_label": target}
    data = record.config["data"] | {"source": record.config["data"]["source"] | {"path": source}}
    run = replace(
        record,
        config={**record.config, "model": model, "data": data},
        measurements=[MetricResult("kid", "KID", 1.5, source, "test", target, direction)],
    )
    examples = [Example(target, "a.jpg", "b.jpg"), Example(source, "c.jpg", "d.jpg")]
    gallery = Gallery({target: "e.jpg", source: "f.jpg"}, examples)
    card = build_card(run, "user/model", "mit", True, gallery)
    again = ModelCard(str(card))
    (result,) = again.data.to_dict()["model-index"][0]["results"]
    assert result["dataset"]["config"] == direction and result["dataset"]["name"] == source
    assert [each["text"] for each in again.data.to_dict()["widget"]] == [
        direction,
        f"{target} to {source}",
    ]
    way, back = (
        " ".join(f"{one} to {other}".split()) for one, other in ((source, target), (target, source))
    )
    headings = _headings(card.text)
    assert headings[2:4] == [way, back] and headings[4] == "How to use it"
    blocks = [token for token in _PARSER.parse(card.text) if token.type == "fence"]
    snippets = [block.content for block in blocks if block.info == "python"]
    assert len(snippets) == 2
    for snippet in snippets:
        nodes = ast.walk(ast.parse(snippet))
        strings = [node.value for node in nodes if isinstance(node, ast.Constant)]
        assert target in strings and "user/model" in strings
    written = next(block for block in blocks if block.info == "yaml")
    assert yaml.safe_load(written.content)["model"] == model
    assert _table_columns(card.text) == {2, 3, 5}


@_FUZZ
@given(TEXT, TEXT)
def test_dataset_card_holds_labels_as_they_are(source: str, target: str) -> None:
    if source == target:
        return
    splits = [Split(label, "train", ["a/train-00000.parquet"], 3) for label in (source, target)]
    card = dataset_card("user/data", "mit", splits)
    front = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert [config["config_name"] for config in front["configs"]] == [source, target]
    body = card.split("\n---\n", 1)[1]
    assert [row[0].strip() for row in _cells(body)[1:]] == [source.strip(), target.strip()]
    snippet, block = (token for token in _PARSER.parse(body) if token.type == "fence")
    nodes = ast.walk(ast.parse(snippet.content))
    strings = [node.value for node in nodes if isinstance(node, ast.Constant)]
    assert sorted(strings) == sorted(["user/data", source, "train", "image"])
    arguments = shlex.split(block.content.replace("\\\n", " "))
    at = arguments.index("--model.source_label")
    assert arguments[at + 1] == source and arguments[at + 3] == target


@pytest.mark.parametrize("label", ["a\nb", "\x00", "\ud800", "x" * 101, "\u2028"])
def test_labels_of_several_lines_are_refused(label: str) -> None:
    with pytest.raises(ConfigError, match="source_label"):
        AGITConfig(source_label=label)
