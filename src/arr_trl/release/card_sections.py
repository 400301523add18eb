"""
The README of a release as parts: front matter, a table of adapters, and one section per adapter between HTML comments.

Each section carries its own facts, so the front matter and the table follow from the sections, a section can move into
the README of a Hub repository, and text that people wrote outside the sections stays.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from yaml import YAMLError

from ..evaluation.results import percent


# What the code of a card calls the place of its adapters until they are on the Hub.
UNPUBLISHED = 'adapters = "path/to/this/folder"  # the folder of this README, or its repository on the Hub'
TAGS = ("diffusers", "lora", "peft", "reinforcement-learning", "rubric-policy-optimization", "auto-rubric", "arr_trl")
PIPELINE_TAGS = {"text-to-image": "text-to-image", "image-editing": "image-to-image"}

_SECTION = re.compile(
    r"<!-- arr_trl:adapter (?P<facts>\{.*?\}) -->\n(?P<body>.*?)\n<!-- /arr_trl:adapter -->", re.DOTALL
)
_TABLE = re.compile(r"<!-- arr_trl:adapters -->\n.*?\n<!-- /arr_trl:adapters -->", re.DOTALL)


@dataclass(frozen=True)
class CardSection:
    """
    The part of a README that one adapter owns.

    Args:
        facts (`dict`):
            What front matter and table need to know: `subfolder`, `base_model` (`None` for a local folder),
            `base_name`, `task`, `license`, `license_name`, `license_link`, `datasets`, `r`, `lora_alpha`, `samples`,
            `metrics`, `win_rate`, `win_rate_ci`.
        body (`str`):
            The Markdown that is read.
    """

    facts: dict[str, Any]
    body: str

    @property
    def subfolder(self) -> str:
        return self.facts["subfolder"]

    def render(self) -> str:
        # `>` is escaped so that no value can end the HTML comment
        facts = json.dumps(self.facts, ensure_ascii=False).replace(">", "\\u003e")
        return f"<!-- arr_trl:adapter {facts} -->\n{self.body.strip()}\n<!-- /arr_trl:adapter -->"

    def published(self, repo_id: str, samples: str | None) -> "CardSection":
        """This section as it reads in the repository `repo_id`, with its sample sheet at the path `samples`, if any."""
        body = self.body.replace(UNPUBLISHED, f'adapters = "{repo_id}"')
        if self.facts["samples"] is not None:
            picture = re.compile(r"!\[(.*)\]\(" + re.escape(self.facts["samples"]) + r"\)")
            link = "The sample sheet was not published." if samples is None else rf"![\1]({samples})"
            body = picture.sub(link, body)
        return CardSection({**self.facts, "samples": samples}, body)


def card_environment() -> Environment:
    """The jinja2 environment of the card's templates."""
    environment = Environment(
        loader=PackageLoader("arr_trl.release"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters["cell"] = _table_cell
    environment.filters["fence"] = _fence
    environment.filters["percent"] = percent
    environment.filters["literal"] = _literal
    return environment


def read_sections(readme: str) -> list[CardSection]:
    """The adapter sections found in a README, in order."""
    return [CardSection(json.loads(m["facts"]), m["body"]) for m in _SECTION.finditer(readme)]


def merge_section(readme: str | None, section: CardSection, title: str) -> str:
    """
    Put a section into a README: in place of the adapter's former one, or after the last.

    Args:
        readme (`str`, *optional*):
            The README so far; a new one is made when missing. Text outside the sections and front matter that did not
            come from a section is kept.
        section ([`CardSection`]):
            The section to put in.
        title (`str`):
            Title of a new README, and the model's name in its `model-index`.

    Returns:
        `str`: the whole README.

    Raises:
        `ValueError`: when the front matter of `readme` is not YAML.
    """
    data, body = ModelCardData(), ""
    if readme is not None:
        try:
            card = ModelCard(readme, ignore_metadata_errors=True)
        except (YAMLError, ValueError) as error:
            raise ValueError(
                f"The front matter of README.md cannot be read ({error}); mend or remove the block between its "
                "`---` lines."
            ) from error
        data, body = card.data, card.text
    if not body.strip():
        body = card_environment().get_template("readme.md.jinja2").render(title=title)
    before = read_sections(body)
    body = _with_section(body, section)
    after = read_sections(body)
    table = card_environment().get_template("adapters.md.jinja2").render(adapters=[s.facts for s in after])
    body = _TABLE.sub(lambda _: table, body)
    _merge_metadata(data, [s.facts for s in before], [s.facts for s in after], title)
    return f"---\n{data.to_yaml()}\n---\n\n{body.strip()}\n"


def _with_section(body: str, section: CardSection) -> str:
    found = list(_SECTION.finditer(body))
    for match in found:
        if json.loads(match["facts"])["subfolder"] == section.subfolder:
            return body[: match.start()] + section.render() + body[match.end() :]
    table = _TABLE.search(body)
    if table is None:  # somebody else's README: what it says comes first
        empty_table = "## Adapters\n\n<!-- arr_trl:adapters -->\n\n<!-- /arr_trl:adapters -->"
        return f"{body.rstrip()}\n\n{empty_table}\n\n{section.render()}\n"
    end = found[-1].end() if found else table.end()
    return f"{body[:end]}\n\n{section.render()}{body[end:]}"


def _merge_metadata(data: ModelCardData, before: list[dict], after: list[dict], title: str) -> None:
    """Bring the front matter up to date: what former sections put there goes, what people put there stays."""

    def merged(existing: str | list[str] | None, values) -> list[str] | None:
        existing = [existing] if isinstance(existing, str) else existing or []
        ours, new = values(before), values(after)
        kept = [value for value in existing if value not in ours or value in new]
        return list(dict.fromkeys([*kept, *new])) or None

    data.library_name = "diffusers"
    data.base_model = merged(data.base_model, lambda facts: [f["base_model"] for f in facts if f["base_model"]])
    if data.base_model:
        data["base_model_relation"] = "adapter"
    data.pipeline_tag = data.pipeline_tag or PIPELINE_TAGS[after[0]["task"]]
    data.tags = merged(data.tags, _tags)
    data.datasets = merged(data.datasets, lambda facts: [dataset for f in facts for dataset in f["datasets"]])
    licenses = {(f["license"], f["license_name"], f["license_link"]) for f in after}
    if len(licenses) > 1:
        data.license, data.license_name, data.license_link = "other", "see-each-adapter", None
    elif after[0]["license"]:
        data.license, data.license_name, data.license_link = licenses.pop()
    adapters = {f["subfolder"] for f in after}
    theirs = [r for r in data.get("eval_results", []) if (r.metric_args or {}).get("adapter") not in adapters]
    results = [*theirs, *(EvalResult(**metric) for f in after for metric in f["metrics"])]
    if results:
        data.eval_results, data.model_name = results, data.model_name or title


def _tags(facts: list[dict]) -> list[str]:
    tasks = [tag for f in facts for tag in dict.fromkeys((PIPELINE_TAGS[f["task"]], f["task"]))]
    return [*tasks, *TAGS] if facts else []


def _literal(value: Any) -> str:
    """A value as Python source, strings in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _table_cell(value: Any) -> str:
    """Anything as the text of one table cell."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple | set) else str(value)
    return " ".join(text.split()).replace("|", "\\|") or "–"


def _fence(text: str) -> str:
    """Backticks that can enclose `text`, whatever backticks it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)
