"""The page of labelled pairs: who disagrees with people, and on what, found in a browser."""

from dataclasses import replace

import pytest
from browser import address, chromium, complaints
from PIL import Image

from arr_trl.data.preferences import Preference
from arr_trl.evaluation.judge_report import Figures, JudgeReport, record_of, record_of_both
from arr_trl.judges import CriterionResult, Verdict
from arr_trl.rubrics import Criterion, Rubric


RUBRIC = Rubric(name="made-up", criteria=[Criterion(text="It is bright."), Criterion(text="It is <b>blue</b>.")])
SAID = "Image 1 is dark, image 2 is not."


def pair(number, winner):
    """The first image is red, the second blue, whatever people preferred."""
    images = (Image.new("RGB", (32, 32), (200, number, 0)), Image.new("RGB", (32, 32), (0, number, 200)))
    return Preference(f"prompt {number}", images, winner, row=number)


def verdict(winner, **facts):
    criteria = (CriterionResult(1, winner), CriterionResult(2, None))
    return Verdict(winner=winner, criteria=criteria, reason=SAID, **facts)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    report = JudgeReport(most=5)
    # in both orders: agrees, contradicts, names what is shown first; no verdict; level for people and judge
    report.add(pair(0, 0), record_of_both(verdict(0), verdict(1)))
    report.add(pair(1, 1), record_of_both(verdict(0), verdict(1)))
    report.add(pair(2, 1), record_of_both(verdict(0), verdict(0)), ["A note."])
    report.add(pair(3, 0), record_of_both(verdict(0), Verdict(failure="It was cut.")))
    report.add(pair(4, None), record_of_both(verdict(None), verdict(None)))
    report.add(pair(5, 0), record_of(verdict(0)))
    path = tmp_path_factory.mktemp("judge") / "judge.html"
    report.write(
        path, "a judge", ["It is right."], [Figures("Measures", ("", "n"), [("pairs", "6")])], RUBRIC, "model"
    )
    with chromium() as page:
        page.get(address(path))
        yield page


def shown(page, **chosen):
    for name in ("pair", "outcome", "criterion", "sort"):
        page.execute_script(
            "const s = byId(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))",
            name,
            chosen.get(name, "prompt" if name == "sort" else ""),
        )
    return page.execute_script("return shown.map((item) => item.pairs[0].p)")


def card(page, number):
    return page.find_element("css selector", f".card[data-prompt='{number}']")


@pytest.mark.parametrize(("outcome", "expected"), [
    ("0", [0]), ("1", [1]), ("tie", [2, 4]), ("disagree", [2]), ("failed", [3]),
])  # fmt: skip
def test_pairs_are_found_by_what_the_judge_makes_of_the_label(page, outcome, expected):
    assert shown(page, outcome=outcome) == expected
    assert complaints(page) == []


def test_criteria_are_filtered_by_the_side_they_speak_for(page):
    assert shown(page, criterion="1:0") == [0]
    assert shown(page, criterion="1:1") == [1]
    assert shown(page, criterion="2:1") == []


def test_the_preferred_picture_stands_first_and_the_words_name_it(page):
    shown(page)
    colors = page.execute_async_script("""
        const done = arguments[0];
        Promise.all([0, 1].map((n) => document.querySelector(`.card[data-prompt='${n}'] img`)).map(async (image) => {
          image.loading = "eager";
          await image.decode();
          const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
          context.drawImage(image, 0, 0, 1, 1);
          return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        })).then(done);
    """)
    assert colors[0][0] > 100 > colors[0][2]  # people preferred the first image, which is red
    assert colors[1][2] > 100 > colors[1][0]
    # shown as image 1 was what stands left, in the order whose words are told
    assert "The judge agrees with the label" in card(page, 0).text
    assert "preferred is dark, other is not" in card(page, 0).text
    assert "The judge prefers the other" in card(page, 1).text
    assert "preferred is dark, other is not" in card(page, 1).text
    card(page, 2).find_element("css selector", "summary").click()
    assert "preferred shown first: preferred" in card(page, 2).text  # each order names what it shows first
    assert "other shown first: other" in card(page, 2).text
    assert "A note." in card(page, 2).text


def test_a_picture_opens_without_a_file_beside_the_page(page):
    shown(page)
    card(page, 0).find_element("css selector", "a").click()
    assert page.find_element("id", "lightbox-picture").get_attribute("src").startswith("data:image/webp")
    assert not page.find_element("id", "lightbox-file").is_displayed()
    page.find_element("id", "lightbox-close").click()
    assert complaints(page) == []


def test_page_says_of_how_many_pairs_it_is(page):
    assert "The first 5 of 6 pairs." in page.find_element("css selector", "header").text
    assert "It is right." in page.find_element("id", "answer").text
    assert "On 1 of 5 pairs" in page.find_element("id", "disagreements").text
    assert "2. It is <b>blue</b>." in page.find_element("id", "rubric").text


def test_two_orders_make_one_record():
    record = record_of_both(verdict(1, margin=0.8), verdict(0, margin=0.4))
    assert (record.winner, record.consistent, record.orders) == (1, True, (1, 1))
    assert record.margin == pytest.approx(0.6)
    assert record.criteria == ((1, 1), (2, None))
    assert record_of_both(verdict(0), verdict(0)).consistent is False
    assert record_of_both(verdict(None), verdict(None)).consistent is True


def test_a_pair_with_a_mask_shows_it_behind_its_source(tmp_path):
    report = JudgeReport()
    source, mask = Image.new("RGB", (32, 32), "gray"), Image.new("L", (8, 8), 255)
    for number, given in enumerate(({}, {"source_image": source}, {"source_image": source, "mask_image": mask})):
        report.add(replace(pair(number, 0), **given), record_of(verdict(0)))
    text = report.write(tmp_path / "judge.html", "a judge", []).read_text()
    assert '"sources":6,"masks":9' in text
