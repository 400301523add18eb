"""κ of raters, and of raters and labels."""

import html
import io
import json

import pytest
from rich.console import Console

from arr_trl.votes import agreement_of, read_votes
from arr_trl.votes.agreement import GIVEN
from arr_trl.votes.printed import agreement_html, print_agreement
from arr_trl.votes.published import published_rows


RANKS = {"0": [1, 2], "1": [2, 1], "t": [1, 1]}


def votes(rater, choices, given=None, **others):
    rows = [
        {"rater": rater, "pair": f"k{i}", "label_rank": RANKS[c], "given_rank": given and RANKS[given[i]]} | others
        for i, c in enumerate(choices)
        if c != "-"
    ]
    return rows


def between(*raters):
    rows = [row for number, choices in enumerate(raters) for row in votes(f"r{number}", choices)]
    return agreement_of(rows).between


def test_two_who_always_agree_agree_beyond_chance_even_where_the_first_always_wins():
    (two,) = between("0000000000", "0000000000")
    assert two.same == 1.0
    assert two.kappa == pytest.approx(1.0)
    assert two.interval == (1.0, 1.0)


def test_kappa_is_that_of_both_orders():
    # first and second are said alike often in both orders: of 8 pairs 6 the same, chance one half
    (two,) = between("00001111", "00011110")
    assert two.kappa == pytest.approx((0.75 - 0.5) / 0.5)
    assert two.interval[0] < two.kappa < two.interval[1]


def test_only_pairs_that_both_have_count():
    two = between("01t-", "0-t1", "---1")
    assert [(one.names, one.pairs) for one in two] == [(("r0", "r1"), 2), (("r1", "r2"), 1)]
    assert two[1].interval is None


def test_labels_and_judges_are_compared_with_each_rater():
    rows = votes("ann", "0101", given="0100") + votes("bob", "1010", given="0100")
    found = agreement_of(rows, {"judge m": {"k0": 0, "k1": 2}})
    assert [(one.names, one.pairs, one.same) for one in found.with_labels] == [
        (("ann", GIVEN), 4, 0.75), (("bob", GIVEN), 4, 0.25), (("ann", "judge m"), 2, 0.5), (("bob", "judge m"), 2, 0.0),
    ]  # fmt: skip


def test_of_two_models_the_share_of_votes_is_told():
    found = agreement_of(votes("ann", "011t", models=["base", "base with A"]))
    assert found.models["base with A against base"]["win_rate"] == 0.625
    low, high = found.models["base with A against base"]["interval"]
    assert low < 0.625 < high


def test_names_are_text_wherever_they_are_shown():
    rows = votes("<script>alert(1)</script>[red]", "01", given="01")
    page = agreement_html("<b>title</b>", agreement_of(rows))
    assert "<script>alert" not in page
    assert "<b>title" not in page
    assert "default-src 'none'" in html.unescape(page)
    screen = io.StringIO()
    print_agreement(agreement_of(rows), Console(file=screen, width=200))
    assert "<script>alert(1)</script>[red]" in screen.getvalue()


@pytest.mark.parametrize(("text", "words"), [
    ("", "holds no votes"),
    ("{", "line 1 is not JSON"),
    ('{"prompt": "x"}', "line 1 is no vote"),
    ('\n{"rater": "a", "pair": "b", "label_rank": [1, 3]}', "line 2 is no vote"),
])  # fmt: skip
def test_a_file_without_votes_is_told(tmp_path, text, words):
    (tmp_path / "votes.jsonl").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_votes(tmp_path / "votes.jsonl")
    with pytest.raises(FileNotFoundError, match="`arr-trl vote` writes one"):
        read_votes(tmp_path / "none.jsonl")


def test_rows_for_the_hub_hold_the_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(b"A")
    row = votes("ann", "1")[0] | {"prompt": "p", "images": ["a.png", "a.png"], "faults": [["text"], []], "time": "now"}
    (published,) = published_rows([json.loads(json.dumps(row))], tmp_path)
    assert published["images"][0] == {"bytes": b"A", "path": None}
    assert published["faults"] == ["first: text"]
    assert published["label_rank"] == [2.0, 1.0]
