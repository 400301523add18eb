"""READMEs that people have edited: what is not ours stays to the letter, what is damaged is refused by its name."""

import re

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from arr_trl.release import base_license, check_model_card
from arr_trl.release.card_sections import CardSection, merge_section, read_sections
from arr_trl.text_files import decode


METRIC = {
    "task_type": "text-to-image",
    "dataset_type": "u/d",
    "dataset_name": "20 held-out prompts",
    "metric_type": "win_rate",
    "metric_value": 0.5,
    "metric_name": "Judge win rate (a1)",
    "metric_args": {"adapter": "a1", "interval_95": [0.4, 0.6]},
}


def section(name="a1", body="body", metrics=(), **facts):
    given = dict(
        subfolder=name, base_model="org/base", base_name="org/base", task="text-to-image", license="apache-2.0",
        license_name=None, license_link=None, datasets=["u/d"], r=4, lora_alpha=8, samples=None, win_rate=None,
        win_rate_ci=None, metrics=list(metrics),
    )  # fmt: skip
    return CardSection(given | facts, f"## {name}\n\n{body}")


def measured(name, value):
    args = {"adapter": name, "interval_95": [0.4, 0.6]}
    return METRIC | {"metric_value": value, "metric_name": f"Judge win rate ({name})", "metric_args": args}


def front(readme):
    return re.match(r"---\r?\n(.*?)\r?\n---\r?\n", readme, re.DOTALL)[1]


FRONT = """\
# keep me
license: mit # really
language: no
version: 1.10
date: 2024-01-01
id: 0123
instance_prompt: "{{ x }}: #1"
tags: [x, 'y z'] # mine
extra_gated_prompt: >-
  You agree to
    not do evil
widget:
- text: 'a: b'   # why
  output:
      url: x.png

base_model_relation: finetune
library_name: peft
datasets:
  # mine come first
  - "u/mine"  # this one

anchored: &a [1]
alias: *a
title: "\U0001f600 café"
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_front_matter_of_people_stays_to_the_letter(newline):
    readme = f"---\n{FRONT}---\n\n# Mine  \n\n\ttext\n\n\n".replace("\n", newline)
    out = merge_section(readme, section(metrics=[METRIC]), "T")
    ours = {"tags:", "datasets:", "  # mine", '  - "u/mine"'}
    for line in FRONT.splitlines():
        assert line in out.replace(newline, "\n").splitlines() or any(line.startswith(own) for own in ours)
    assert newline.join(FRONT.splitlines()[:7]) in out
    assert f"datasets:{newline}  # mine come first{newline}  - \"u/mine\"  # this one{newline}  - u/d{newline}{newline}anchored" in out  # fmt: skip
    assert "tags: [x, 'y z', text-to-image, diffusers," in out
    assert (
        out.split("\n---", 1)[1]
        .lstrip("\r\n")
        .startswith(f"# Mine  {newline}{newline}\ttext{newline}{newline}{newline}")
    )
    assert newline == "\n" or "\n" not in out.replace("\r\n", "")
    assert merge_section(out, section(metrics=[METRIC]), "T") == out
    data = ModelCard(out).data
    assert (data.license, data.library_name, data["base_model_relation"]) == ("mit", "peft", "finetune")
    assert data.base_model == ["org/base"]
    assert data.eval_results[0].metric_value == 0.5


def test_text_between_two_rules_is_text():
    for text in (
        "---\n\n# My model\n\n---\n\nText that stays.\n",
        "---\nhello\n---\nmore",
        "---\n\nlicense: mit\n",
        "---\n# Mine\n\nNote: text\n",
        "---\nhttp://a.b\n",
        "----\nlicense: mit\n----\n",
    ):
        out = merge_section(text, section(), "T")
        assert text in out
        assert ModelCard(out).data.license == "apache-2.0"
        assert merge_section(out, section(), "T") == out


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_front_matter_behind_the_mark_of_an_encoding_is_front_matter(encoding):
    text = decode("---\nlicense: mit\nlanguage: en\n---\n\n# Mine\n".encode(encoding), "README.md")
    out = merge_section(text, section(), "T")
    assert out.startswith("---\nlicense: mit\nlanguage: en\n")
    assert ModelCard(out).data.license == "mit"


def test_a_license_that_people_set_stays_and_one_of_ours_follows_its_adapter():
    ours = merge_section(None, section(), "T")
    assert ModelCard(merge_section(ours, section(license="mit"), "T")).data.license == "mit"
    theirs = ours.replace("license: apache-2.0", "license: openrail # as the data ask")
    again = merge_section(theirs, section(license="mit"), "T")
    assert "license: openrail # as the data ask" in again
    two = ModelCard(merge_section(ours, section("a2", license="mit"), "T")).data
    assert (two.license, two.license_name) == ("other", "see-each-adapter")


def test_what_people_set_stays_theirs_when_an_adapter_said_the_same():
    theirs = "license: mit\nbase_model: org/base\ndatasets:\n- u/d # mine\ntags:\n- text-to-image\n"
    same = merge_section(f"---\n{theirs}---\n# Mine\n", section(license="mit"), "T")
    other = section(license="apache-2.0", datasets=["q/q"], base_model="org/other", task="image-editing")
    for between in ([], [section(license="mit")], [section(datasets=["u/x"])], [section("a2", license="mit")]):
        readme = same
        for one in [*between, other]:
            readme = merge_section(readme, one, "T")
        data = ModelCard(readme).data
        assert data.license == "mit"
        assert data.base_model == ["org/base", "org/other"]
        assert data.datasets == ["u/d", "q/q"]
        assert "- u/d # mine\n" in readme
        assert "text-to-image" in data.tags
        assert merge_section(readme, other, "T") == readme
    # what a card on the Hub had of its own says nothing of another README
    (local,) = read_sections(same)
    elsewhere = merge_section(merge_section(None, local, "T"), other, "T")
    assert ModelCard(elsewhere).data.license == "apache-2.0"
    assert ModelCard(elsewhere).data.datasets == ["q/q"]
    # a license that they take away is theirs no more
    assert ModelCard(merge_section(same.replace("license: mit\n", ""), other, "T")).data.license == "apache-2.0"


MODEL_INDEX = """\
model-index:
- name: m # theirs
  results:
  - task: {type: text-to-image}
    metrics:
    - {type: fid, value: 3.10}
  - task:
      type: text-to-image
    dataset: {type: coco, name: COCO}
    metrics:
    - type: fid
      value: 1e3
"""


def test_measurements_of_others_stay_to_the_letter():
    readme = f"---\n{MODEL_INDEX}---\n# Mine\n"
    assert MODEL_INDEX in merge_section(readme, section(), "T")
    one = merge_section(readme, section(metrics=[measured("a1", 0.5)]), "T")
    assert MODEL_INDEX in one
    two = merge_section(one, section("a2", metrics=[measured("a2", 0.7)]), "T")
    better = merge_section(two, section(metrics=[measured("a1", 0.6)]), "T")
    assert MODEL_INDEX in better
    (model,) = yaml.safe_load(front(better))["model-index"]
    found = [(m["args"]["adapter"], m["value"]) for r in model["results"][2:] for m in r["metrics"]]
    assert found == [("a1", 0.6), ("a2", 0.7)]
    without = merge_section(merge_section(better, section(), "T"), section("a2"), "T")
    assert MODEL_INDEX in without
    assert "win_rate" not in front(without)


def test_measurements_beside_ours_in_one_result_stay():
    ours = merge_section(None, section(metrics=[METRIC]), "T")
    mixed = ours.replace("    metrics:\n", "    metrics:\n    - type: fid # theirs\n      value: 3\n", 1)
    assert mixed != ours
    out = merge_section(mixed, section(metrics=[measured("a1", 0.9)]), "T")
    assert "    - type: fid # theirs\n      value: 3\n" in out
    (model,) = yaml.safe_load(front(out))["model-index"]
    assert sorted(m["value"] for r in model["results"] for m in r["metrics"]) == [0.9, 3]


def test_what_ours_no_longer_say_goes_and_nothing_else():
    text = "---\ndatasets:\n- mine # 1\n- u/d\n# 2\n- more\n---\n# Mine\n"
    out = merge_section(merge_section(text, section(datasets=["u/x"]), "T"), section(datasets=[]), "T")
    assert "datasets:\n- mine # 1\n- u/d\n# 2\n- more\n" in out
    ours = merge_section("---\nx: 1\n---\n# Mine\n", section(metrics=[METRIC]), "T")
    bare = merge_section(ours, section(datasets=[]), "T")
    assert front(ours).replace("datasets:\n- u/d\n", "").startswith(front(bare))
    assert "model-index" not in front(bare)
    flow = merge_section("---\ntags: [x]\ndatasets: [mine, ]\n---\n# Mine\n", section(), "T")
    assert "datasets: [mine, u/d" in flow
    assert "datasets: [mine]\n" in merge_section(flow, section(datasets=[]), "T")
    word = merge_section("---\ndatasets: mine # 1\ntags: # none\n---\n# Mine\n", section(), "T")
    assert "datasets: # 1\n- mine\n- u/d\ntags: # none\n- text-to-image\n" in word


@pytest.mark.parametrize(
    ("readme", "words"),
    [
        ("--- \nlicense: mit\n---\n# Mine\n", "a line of `---` and nothing else"),
        ("--- # mine\nlicense: mit\n---\n# Mine\n", "a line of `---` and nothing else"),
        ("\n--- \r\n# a\r\n'license': mit\r\n---\r\n# Mine\r\n", "a line of `---` and nothing else"),
        ("---\nlicense: mit\n# Mine\n\ntext\n", "a line of `---` and nothing else"),
        ("---\ntags:\n- x\n\n# Mine\n", "a line of `---` and nothing else"),
        ("---\nlicense: mit\n----\n# Mine\n", "a line of `---` and nothing else"),
        ("---\nlicense: [mit\n---\n# Mine\n", "mend or remove the block between its `---` lines"),
        ("---\nlicense: mit\nlicense: apache-2.0\n---\n# Mine\n", "has the key `license` twice"),
        ("---\nx: &a [1]\ntags: *a\n---\n# Mine\n", "has an anchor or alias in `tags`"),
        ("---\ntags: &a [1]\nx: *a\n---\n# Mine\n", "has an anchor or alias in `tags`"),
        ("---\ntags: [a, # mine\n  b]\n---\n# Mine\n", "has comments inside the brackets of `tags`"),
        ("---\ntags: |\n  a\n---\n# Mine\n", "has a `tags` of several lines"),
        ("---\n{license: mit, x: 1}\n---\n# Mine\n", "cannot be brought up to date"),
        ("---\ntags: {a: 1}\n---\n# Mine\n", "has a `tags` of several lines"),
        ("---\nmodel-index: not correct\n---\n# Mine\n", "has a `model-index` that is no list"),
    ],
)
def test_front_matter_that_cannot_be_kept_is_refused(readme, words):
    with pytest.raises(ValueError, match=words):
        merge_section(readme, section(metrics=[METRIC]), "T")


END, TABLE_END = "<!-- /arr_trl:adapter -->\n", "<!-- /arr_trl:adapters -->\n"
TWO = merge_section(merge_section("# Mine\n\nMY NOTES\n", section("a1"), "T"), section("a2"), "T")
BEGIN_2 = next(line for line in TWO.splitlines(keepends=True) if '"subfolder": "a2"' in line)


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (TWO.replace(END, "", 1), "section of a1 in README.md has lost its end marker; .* before line"),
        (TWO[: TWO.rindex(END)], "section of a2 in README.md has lost its end marker"),
        (TWO.replace(BEGIN_2, ""), "end marker .* and the marker that begins its section is gone"),
        (TWO.replace(BEGIN_2, BEGIN_2.replace("-->", "--")), "the marker that begins its section is gone or damaged"),
        (TWO.replace(TABLE_END, ""), "table of adapters in README.md has lost its end marker"),
        (TWO.replace("<!-- arr_trl:adapters -->\n", ""), "the marker that begins the table is gone"),
        (TWO.replace('"a1"', '"a2"'), "two sections of a2"),
        (TWO.replace('{"subfolder": "a1"', '{"subfolder": "a1"]'), "section of a1 .* are no JSON"),
        (TWO.replace('"datasets": ["u/d"]', '"datasets": ' + "[" * 10**5, 1), "section of a1 .* are no JSON .*nested too deeply"),
        (TWO.replace('"r": 4', '"r": 4, "r": 5', 1), "section of a1 .* are no JSON .*'r' comes twice"),
        (TWO.replace(', "task": "text-to-image"', "", 1), "section of a1 .* cannot be used: `task`: Field required"),
        (TWO.replace('"task": "text-to-image"', '"task": "video"', 1), "section of a1 .* cannot be used: `task`"),
        (TWO.replace('"datasets": ["u/d"]', '"datasets": null', 1), "section of a1 .* cannot be used: `datasets`"),
        (re.sub(r'adapter \{"subfolder".*-->', "adapter -->", TWO, count=1), r"section in line \d+ .* are no JSON"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pushed", ["a1", "a2", "a3"])
def test_a_damaged_section_is_named_and_nothing_is_deleted(damaged, words, pushed):
    assert damaged != TWO
    with pytest.raises(ValueError, match=words) as refused:
        merge_section(damaged, section(pushed, "new"), "T")
    assert refused.value.__cause__ is None  # else a push would take it for a server's answer
    with pytest.raises(ValueError, match=words):
        read_sections(damaged)


def test_two_sections_whose_markers_between_are_gone_are_not_taken_for_one():
    a1, a2 = section("a1", "### How to use\n\nbody"), section("a2", "### How to use\n\nbody")
    two = merge_section(merge_section("# Mine\n", a1, "T"), a2, "T")
    between = re.compile(re.escape(END) + r".*?-->\n", re.DOTALL)
    for cut, heading in (
        (between.sub("\nMY NOTES\n\n", two, count=1), "## a2"),
        (between.sub("\nMY NOTES\n\n", two.replace("## a2\n\n", ""), count=1), "### How to use"),
        (two.replace("body\n", "body\n\n# My notes\n", 1), "# My notes"),
        (between.sub("", two, count=1).replace("\n", "\r\n"), "## a2"),
    ):
        assert cut != two
        for pushed in ("a1", "a2", "a3"):
            with pytest.raises(ValueError, match=f"section of a1 in README.md holds the heading `{heading}`"):
                merge_section(cut, section(pushed, "new"), "T")


def test_a_heading_inside_code_is_no_heading():
    body = "```python\n# a comment\n```\n\n````text\n## Theme\n```\n## Theme\n````\n\n### License\n\n~~~\n# more\n~~~"
    out = merge_section(None, section("a1", body), "T")
    assert merge_section(out, section("a1", body), "T") == out


def test_markers_in_other_line_ends_and_spaces_are_markers():
    for text in (TWO.replace("\n", "\r\n"), TWO.replace("<!-- /arr_trl:adapter -->", "  <!--/arr_trl:adapter-->  ")):
        out = merge_section(text, section("a1", "new"), "T")
        assert [s.subfolder for s in read_sections(out)] == ["a1", "a2"]
        assert out.count("## a1") == 1
        assert "\n" not in out.replace("\r\n", "") or "\r" not in out


def test_a_marker_inside_a_line_is_no_marker():
    out = merge_section(None, section("a1", "1. Shows `<!-- /arr_trl:adapter -->` in a rubric."), "T")
    assert [s.body for s in read_sections(out)] == ["## a1\n\n1. Shows `<!-- /arr_trl:adapter -->` in a rubric."]


def test_a_card_that_could_not_be_brought_up_to_date_is_found_before_a_run(tmp_path):
    check_model_card(tmp_path)
    for text in (TWO, "# Mine\n", "---\ntags: [x]\n---\n"):
        (tmp_path / "README.md").write_text(text)
        check_model_card(tmp_path)
        assert (tmp_path / "README.md").read_text() == text
    for text in (TWO.replace(END, "", 1), "---\na: [\n---\n", "---\ntags: |\n  a\n---\n"):
        (tmp_path / "README.md").write_text(text)
        with pytest.raises(ValueError, match=r"README\.md"):
            check_model_card(tmp_path)


def test_a_base_whose_card_cannot_be_read_has_no_known_license(tmp_path):
    for content in (
        b"---\nhello\n---\n",
        b"---\nlicense: [mit\n---\n",
        "---\nlicense: caf\u00e9\n---\n".encode("latin-1"),
    ):
        (tmp_path / "README.md").write_bytes(content)
        assert base_license(tmp_path)["license"] is None
    (tmp_path / "README.md").write_bytes("\ufeff---\nlicense: no\nlicense_name: 1.10\n---\n".encode())
    assert base_license(tmp_path) == {"license": "no", "license_name": "1.10", "license_link": None}


ENTRIES = [
    "license: mit # why", "language: no", "version: 1.10", "# a comment", "", "tags: [x, 'y']", "tags:\n- x # mine\n\n- y",
    "tags: lora", "tags:", "datasets:\n  - a\n  # b\n  - c", "datasets: [a,\n  b]", "base_model: other/base", "x: |\n  a\n\n  b",
    "y: >-\n  a\n   b", "z: &z [1]", "w: *z", "model-index:\n- name: m\n  results:\n  - task: {type: t}\n    metrics:\n    - {type: f, value: 1.10}",
    "base_model_relation: finetune", "library_name: peft", "'quoted': \"a: b\"", "? k\n: v", "bad: [", "hello", "license_link: x#y",
    "pipeline_tag: null", "license: ~", "e: caf\u00e9 \U0001f600", "...", "  indented: 1",
]  # fmt: skip
LINES = [
    "# Mine", "text  ", "\ttab", "", "---", "***", "<!-- a comment -->", "`<!-- arr_trl:adapter -->`", "| a | b |", "```", "\u2028", "\x0c",
    END.strip(), TABLE_END.strip(), "<!-- arr_trl:adapters -->", "license: mit", "caf\u00e9",
]  # fmt: skip


# a README takes 0.1 s: to explain a failure would take minutes
@settings(derandomize=True, database=None, max_examples=60, deadline=None, phases=[Phase.generate])
@given(
    matter=st.one_of(st.none(), st.lists(st.sampled_from(ENTRIES), max_size=5)),
    lines=st.lists(st.sampled_from(LINES[:12]), max_size=6),
    odd=st.lists(st.sampled_from(LINES), max_size=1),
    newline=st.sampled_from(["\n", "\n", "\r\n"]),
    end=st.sampled_from(["", "\n", "\n\n", "  "]),
    sections=st.sampled_from([(), ("a1",), ("a2", "a1"), ("a2", "a3")]),
)
def test_any_readme_survives_a_push_to_the_letter_outside_our_sections(matter, lines, odd, newline, end, sections):
    head = "" if matter is None else "---\n" + "".join(f"{entry}\n" for entry in matter) + "---\n"
    body = ("\n".join([*lines, *odd]) + end).replace("\n", newline)
    readme = head.replace("\n", newline) + body
    try:
        for name in sections:
            readme = merge_section(readme, section(name, metrics=[measured(name, 0.3)]), "T")
        out = merge_section(readme, section("a1", "new", metrics=[measured("a1", 0.4)]), "T")
    except ValueError:
        return
    assert body in out
    for entry in matter or []:
        key = entry.split(":")[0]
        if key not in ("tags", "datasets", "base_model", "model-index", "pipeline_tag", "license") and entry:
            assert entry.replace("\n", newline) in out
    data = ModelCard(out, ignore_metadata_errors=True).data
    assert data.tags.count("lora") == 1
    assert data.tags[:2] == ["x", "y"] or not any(entry.startswith("tags") and "y" in entry for entry in matter or [])
    assert merge_section(out, section("a1", "new", metrics=[measured("a1", 0.4)]), "T") == out
    assert merge_section(out, section("a1", "other"), "T").replace("other", "new").count("## a1") == 1
    assert [s.subfolder for s in read_sections(out)] == list(dict.fromkeys((*sections, "a1")))
