"""
The README of a release as parts: front matter, a table of adapters, and one section per adapter between HTML comments.

Each section carries its own facts, so the front matter and the table follow from the sections, a section can move into
the README of a Hub repository, and text that people wrote outside the sections stays.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..adapter_names import ROOT, called
from ..evaluation.results import percent
from ..text_files import read_json
from . import front_matter


# What the code of a card calls the place of its adapters, or of a transformer, until they are on the Hub.
UNPUBLISHED, UNPUBLISHED_FULL = (
    f'{name} = "path/to/this/folder"  # the folder of this README, or its repository on the Hub'
    for name in ("adapters", "trained")
)
# `template:sd-lora` and `diffusers-training` are what diffusers' own scripts set, and what the Hub's filters of adapters know.
_TAGS_OF_ADAPTERS = ("diffusers", "diffusers-training", "lora", "peft", "template:sd-lora", "arr_trl")
_TAGS_OF_FULL = ("diffusers", "diffusers-training", "full-finetuning", "arr_trl")
_FORMER_TAGS = ["reinforcement-learning", "rubric-policy-optimization", "auto-rubric"]  # of sections that say none
_LICENSE = ("license", "license_name", "license_link")
PIPELINE_TAGS = {"text-to-image": "text-to-image", "image-editing": "image-to-image"}

_END, _TABLE_BEGIN, _TABLE_END = "<!-- /arr_trl:adapter -->", "<!-- arr_trl:adapters -->", "<!-- /arr_trl:adapters -->"
# Code, in which anything may stand, or a heading.
_HEADING = re.compile(
    r"^(?P<fence>`{3,}|~{3,})[^\n]*\n(?:.*?^(?P=fence)|.*)|^(?P<heading>#{1,3} [^\n]*)", re.MULTILINE | re.DOTALL
)
# a line of its own, spaces as people leave them
_MARKER = re.compile(
    r"^[ \t]*<!--[ \t]*(?P<end>/?)[ \t]*arr_trl:adapter(?P<table>s?)\b(?P<facts>.*?)-->[ \t]*(?=\r?$)", re.MULTILINE
)


class _Metric(BaseModel):
    model_config = ConfigDict(extra="forbid")

    task_type: str
    dataset_type: str
    dataset_name: str
    metric_type: str
    metric_value: float
    metric_name: str | None = None
    metric_args: dict[str, Any] | None = None


class _Picture(BaseModel):
    file: str = Field(pattern=r"^gallery/[\w-][\w.-]*/\d+\.png$")  # a push sends what stands here
    prompt: str


class _Facts(BaseModel):
    subfolder: str
    base_model: str | None
    base_name: str
    task: Literal["text-to-image", "image-editing"]
    license: str | None
    license_name: str | None
    license_link: str | None
    datasets: list[str]
    r: int | None
    lora_alpha: float | None
    samples: str | None
    win_rate: float | None
    win_rate_ci: tuple[float, float] | None
    metrics: list[_Metric]
    # those that sections of earlier versions lack
    win_rate_by: str | None = None
    gallery: list[_Picture] = []
    tags: list[str] = _FORMER_TAGS
    # what people had in the front matter before a section said the same
    theirs: dict[str, list[str | None]] = {}


@dataclass(frozen=True)
class CardSection:
    """
    The part of a README that one adapter owns.

    Args:
        facts (`dict`):
            What front matter and table need to know: `subfolder`, `base_model` (`None` for a local folder),
            `base_name`, `task`, `license`, `license_name`, `license_link`, `datasets`, `r`, `lora_alpha`, `samples`,
            `metrics`, `win_rate`, `win_rate_ci`, `win_rate_by`, `gallery` and `tags`; in a README also `theirs`, where its front matter said the same before.
        body (`str`):
            The Markdown that is read.
    """

    facts: dict[str, Any]
    body: str

    @property
    def subfolder(self) -> str:
        return self.facts["subfolder"]

    @property
    def is_full(self) -> bool:
        """Whether it is of a full fine-tune, which has no rank, and not of an adapter."""
        return self.facts["r"] is None

    def render(self) -> str:
        # `>` is escaped so that no value can end the HTML comment
        facts = json.dumps(self.facts, ensure_ascii=False).replace(">", "\\u003e")
        return f"<!-- arr_trl:adapter {facts} -->\n{self.body.strip()}\n{_END}"

    def published(self, repo_id: str, samples: str | None, files: Collection[str] = ()) -> "CardSection":
        """
        This section as it reads in the repository `repo_id`, with its sample sheet at the path `samples`, if any, and
        those of its pictures that are among `files`.
        """
        body = self.body.replace(UNPUBLISHED, f'adapters = "{repo_id}"')
        body = body.replace(UNPUBLISHED_FULL, f'trained = "{repo_id}"')
        if self.facts["samples"] is not None:
            picture = re.compile(r"!\[(.*)\]\(" + re.escape(self.facts["samples"]) + r"\)")
            link = "The sample sheet was not published." if samples is None else rf"![\1]({samples})"
            body = picture.sub(link, body)
        gallery = [picture for picture in self.facts.get("gallery", []) if picture["file"] in files]
        return CardSection({**self.facts, "samples": samples, "gallery": gallery}, body)


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
    environment.filters["called"] = called
    return environment


@dataclass(frozen=True)
class _Part:
    """A place of a README between two markers, these included: a section, or the table where it is none."""

    start: int
    end: int
    section: CardSection | None


def read_sections(readme: str) -> list[CardSection]:
    """
    The adapter sections found in a README, in order.

    Raises:
        `ValueError`: when a section has lost a marker or its facts; it is named.
    """
    return [part.section for part in _parts(readme) if part.section is not None]


def check_readme(readme: str) -> None:
    """
    Find out that no section could be put into a README.

    Raises:
        `ValueError`: as [`merge_section`].
    """
    needed = [name for name, field in _Facts.model_fields.items() if field.is_required()]
    facts = dict.fromkeys(needed) | {
        "subfolder": "",
        "base_name": "",
        "task": "text-to-image",
        "datasets": [],
    }
    merge_section(readme, CardSection(facts | {"r": 1, "lora_alpha": 1, "metrics": []}, ""), "")


def merge_section(readme: str | None, section: CardSection, title: str) -> str:
    """
    Put a section into a README: in place of the adapter's former one, or after the last.

    Args:
        readme (`str`, *optional*):
            The README so far, with its line ends as they are; a new one is made when missing. Outside the sections, their
            table and the values of the front matter that come from sections it stays to the letter.
        section ([`CardSection`]):
            The section to put in.
        title (`str`):
            Title of a new README, and the model's name in its `model-index`.

    Returns:
        `str`: the whole README.

    Raises:
        `ValueError`: when the front matter of `readme` is not YAML or cannot be changed without a loss, or is not closed, or a
            section has lost a marker or its facts or holds another.
    """
    opening, matter, closing, body = front_matter.split((readme or "").removeprefix("\ufeff"))
    newline = "\r\n" if readme and readme.count("\r\n") == readme.count("\n") > 0 else "\n"
    if not body.strip():
        new = card_environment().get_template("readme.md.jinja2").render(title=title, is_full=section.is_full).strip()
        body += _gap(closing + body, newline) + f"{new}\n".replace("\n", newline)
    before = [s.facts for s in read_sections(body)]
    theirs = _theirs(matter, before, section.facts)
    facts = {key: value for key, value in section.facts.items() if key != "theirs"}
    body = _with_section(body, CardSection(facts | ({"theirs": theirs} if theirs else {}), section.body), newline)
    after = [s.facts for s in read_sections(body)]
    if len(after) > 1 and any(f["subfolder"] == ROOT for f in after):
        others = ", ".join(f["subfolder"] for f in after if f["subfolder"] != ROOT)
        raise ValueError(
            f"An adapter at the root of a repository is alone there, and README.md also speaks of {others}: who names no "
            "subfolder would get one or the other. Give each an `adapter_subfolder`, or use another `output_dir` and "
            "repository. Nothing was changed."
        )
    table = card_environment().get_template("adapters.md.jinja2").render(adapters=after)
    for part in reversed(_parts(body)):
        if part.section is None:
            body = body[: part.start] + table.replace("\n", newline) + body[part.end :]
    _merge_metadata(matter, before, after, theirs, title)
    return f"{opening}{matter.render()}{closing}{body}"


def _parts(readme: str) -> list[_Part]:
    """
    The sections and the table of a README.

    Raises:
        `ValueError`: when markers do not come in pairs, facts are not what they have to be, or an adapter has two sections.
    """
    parts: list[_Part] = []
    open_marker, names = None, set()
    for marker in _MARKER.finditer(readme):
        if open_marker is None and not marker["end"]:
            open_marker = marker
            continue
        line = readme.count("\n", 0, marker.start()) + 1
        if open_marker is None:
            raise ValueError(
                f"README.md has an end marker `{marker[0].strip()}` in line {line}, and the marker that begins "
                f"{'the table' if marker['table'] else 'its section'} is gone or damaged; put it back, or remove this line too. "
                "Nothing was changed."
            )
        what = "The table of adapters" if open_marker["table"] else f"The section {_name(open_marker, readme)}"
        if not marker["end"] or marker["table"] != open_marker["table"]:
            raise _lost_end(what, open_marker, f", before line {line}, where something else begins or ends")
        section = None
        if not open_marker["table"]:
            facts = _read_facts(open_marker["facts"], what)
            section = CardSection(facts, readme[open_marker.end() : marker.start()].replace("\r\n", "\n").strip("\n"))
            if section.subfolder in names:
                raise ValueError(
                    f"README.md has two sections of {section.subfolder}; remove one with its markers. Nothing was changed."
                )
            names.add(section.subfolder)
            _check_one_section(section, what)
        parts.append(_Part(open_marker.start(), marker.end(), section))
        open_marker = None
    if open_marker is not None:
        what = "The table of adapters" if open_marker["table"] else f"The section {_name(open_marker, readme)}"
        raise _lost_end(what, open_marker, "")
    return parts


def _lost_end(what: str, begin: re.Match, where: str) -> ValueError:
    return ValueError(
        f"{what} in README.md has lost its end marker; put the line `{_TABLE_END if begin['table'] else _END}` back where it "
        f"ends{where}. Nothing was changed."
    )


def _check_one_section(section: CardSection, what: str) -> None:
    """A section is replaced as a whole: where the markers between two are gone, the other and what is between would go."""
    headings = [found["heading"].rstrip() for found in _HEADING.finditer(section.body) if found["heading"]]
    own = 1 if headings and section.body.lstrip().startswith(headings[0]) else 0
    foreign = [line for line in headings[own:] if not line.startswith("### ")]
    foreign += [line for i, line in enumerate(headings) if line in headings[:i]]
    if foreign:
        raise ValueError(
            f"{what} in README.md holds the heading `{foreign[0]}`, which is not of it, as where the markers between two "
            f"sections are gone. Put the line `{_END}` where the section of {section.subfolder} ends, and the first marker of "
            "another section back; text of your own stands behind an end marker. Nothing was changed."
        )


def _name(begin: re.Match, readme: str) -> str:
    """What a section is called, as far as its marker still says it."""
    found = re.search(r'"subfolder": *"([^"]+)"', begin["facts"])
    return f"of {found[1]}" if found else f"in line {readme.count(chr(10), 0, begin.start()) + 1}"


def _read_facts(text: str, what: str) -> dict[str, Any]:
    try:
        facts = read_json(text)
        _Facts.model_validate(facts)
    except ValidationError as error:
        found = error.errors()[0]
        problem = f"cannot be used: `{'.'.join(map(str, found['loc']))}`: {found['msg']}"
    except ValueError as error:
        problem = f"are no JSON ({error})"
    else:
        return facts
    # not from the error: its kind is also that of a server that answers with a web page
    raise ValueError(
        f"{what} in README.md cannot be brought up to date: the facts in its first marker {problem}. Mend them, or remove the "
        "section with both of its markers; whoever trains or pushes that adapter again writes a new one. Nothing was changed."
    ) from None


def _with_section(body: str, section: CardSection, newline: str) -> str:
    parts = _parts(body)
    written = section.render().replace("\n", newline)
    for part in parts:
        if part.section is not None and part.section.subfolder == section.subfolder:
            return body[: part.start] + written + body[part.end :]
    if all(part.section is not None for part in parts):  # somebody else's README: what it says comes first
        empty_table = f"## Adapters\n\n{_TABLE_BEGIN}\n\n{_TABLE_END}".replace("\n", newline)
        return f"{body}{_gap(body, newline)}{empty_table}{newline * 2}{written}{newline}"
    end = max(part.end for part in [part for part in parts if part.section is not None] or parts)
    return f"{body[:end]}{newline * 2}{written}{body[end:]}"


def _gap(text: str, newline: str) -> str:
    """What makes an empty line behind a text."""
    return "" if text.endswith(newline * 2) else newline if text.endswith(("\n", "\r")) else newline * 2


def _theirs(matter: front_matter.FrontMatter, before: list[dict], new: dict) -> dict[str, list[str | None]]:
    """
    What of the front matter people wrote although a section says, or is about to say, the same: no former section put it
    there, or one has found it there.
    """
    theirs = {}
    for key, values in _LISTS.items():
        found = {word for facts in before for word in facts.get("theirs", {}).get(key, [])}
        found |= set(values([new])) - set(values(before))
        if words := [word for word in dict.fromkeys(matter.words(key)) if word in found]:
            theirs[key] = words
    there = [" ".join(matter.words(key)) or None for key in _LICENSE]
    noted = [facts["theirs"]["license"] for facts in before if "license" in facts.get("theirs", {})]
    if any(there) and (there in noted or tuple(there) != _license(before)):
        theirs["license"] = there
    return theirs


def _merge_metadata(
    matter: front_matter.FrontMatter, before: list[dict], after: list[dict], theirs: dict, title: str
) -> None:
    """Bring the front matter up to date: what former sections put there goes, what people put there stays."""

    def merge(key: str) -> None:
        new = _LISTS[key](after)
        matter.merge_words(key, set(_LISTS[key](before)) - set(new) - set(theirs.get(key, [])), new)

    def put_if_free(key: str, value: str) -> None:
        if not matter.words(key):
            matter.put(key, value)

    put_if_free("library_name", "diffusers")
    put_if_free("pipeline_tag", PIPELINE_TAGS[after[0]["task"]])
    merge("base_model")
    if any(f["base_model"] for f in after):
        put_if_free("base_model_relation", "finetune" if all(f["r"] is None for f in after) else "adapter")
    if "license" not in theirs and (new := _license(after)) is not None:
        for key, value in zip(_LICENSE, new, strict=True):
            matter.put(key, value)
    merge("tags")
    merge("datasets")
    pictures = [picture for f in after for picture in f.get("gallery", [])]
    ours = tuple({f"gallery/{called(f['subfolder'])}/" for f in [*before, *after]})
    matter.merge_pictures(ours, pictures)
    measured = [EvalResult(**metric) for f in after for metric in f["metrics"]]
    results = eval_results_to_model_index(title, measured)[0]["results"] if measured else []
    matter.merge_results({f["subfolder"] for f in [*before, *after]}, results, title)


def _license(facts: list[dict]) -> tuple[str | None, ...] | None:
    """`license`, `license_name` and `license_link` of a repository with these adapters; `None` where it is not known."""
    licenses = {tuple(f[key] for key in _LICENSE) for f in facts}
    if len(licenses) > 1:
        return "other", "see-each-adapter", None
    return licenses.pop() if facts and facts[0]["license"] else None


def _tags(facts: list[dict]) -> list[str]:
    tasks = [tag for f in facts for tag in dict.fromkeys((PIPELINE_TAGS[f["task"]], f["task"]))]
    of_runs = dict.fromkeys(tag for f in facts for tag in f.get("tags", _FORMER_TAGS))
    kinds = dict.fromkeys(tag for f in facts for tag in (_TAGS_OF_FULL if f["r"] is None else _TAGS_OF_ADAPTERS))
    return [*tasks, *kinds, *of_runs]


# Lists of the front matter that people and sections share, and what sections put there.
_LISTS = {
    "base_model": lambda facts: [f["base_model"] for f in facts if f["base_model"]],
    "tags": _tags,
    "datasets": lambda facts: [dataset for f in facts for dataset in f["datasets"]],
}


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
