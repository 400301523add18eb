"""The report as a reader uses it: in a browser, from disk, without a network."""

import json
import re

import pytest
from browser import address, chromium, complaints
from made_up_evaluation import color_of, made_up

from arr_trl.evaluation import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "run").mkdir()
    history = [
        {"step": s, "policy/kl": s / 100, "judge/tie_rate": 0.3, "eval_win_rate": 0.5 + s / 100} for s in range(1, 9)
    ]
    (folder / "run" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    return write_report(folder, *made_up(folder, prompts=60))


@pytest.fixture(scope="module")
def page(report):
    with chromium() as page:
        page.get(address(report))
        yield page


def cards(page):
    return page.find_elements("css selector", ".card")


def shown_prompts(page) -> list[int]:
    # at one moment: the page may be drawn again between two questions
    return page.execute_script("return [...document.querySelectorAll('.card')].map((c) => Number(c.dataset.prompt))")


def choose(page, name: str, value: str) -> None:
    page.execute_script(
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))",
        name,
        value,
    )


@pytest.fixture(autouse=True)
def everything_shown(request):
    if "page" not in request.fixturenames:
        return
    page = request.getfixturevalue("page")
    for name, value in (("sort", "prompt"), ("outcome", ""), ("criterion", "")):
        choose(page, name, value)
    page.execute_script("clearTimeout(typing); document.getElementById('search').value = ''; update()")


def test_file_needs_nothing_from_outside(report):
    text = report.read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r'(?:src|href)="https?:', text)
    assert sorted(path.name for path in report.parent.iterdir()) == ["images", "report.html", "run"]


def test_page_opens_without_a_complaint(page):
    assert "trained against tiny-flux" in page.title
    assert complaints(page) == []


def test_a_page_of_pairs_is_shown_and_the_others_are_turned_to(page):
    assert shown_prompts(page) == list(range(24))
    page.find_element("id", "next").click()
    assert shown_prompts(page) == list(range(24, 48))
    page.find_element("id", "previous").click()
    assert shown_prompts(page) == list(range(24))


def test_each_thumbnail_is_the_picture_of_its_prompt_and_model(page):
    page.find_element("id", "next").click()
    colors = page.execute_async_script("""
        const done = arguments[0];
        Promise.all([...document.querySelectorAll(".card img")].map(async (image) => {
          image.loading = "eager";
          await image.decode();
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = 1;
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0, 1, 1);
          return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        })).then(done);
    """)
    wanted = [color_of(model, prompt) for prompt in range(24, 48) for model in ("base", "trained")]
    assert [tuple(color) for color in colors] == wanted


def test_full_picture_lies_where_the_link_leads(page, report):
    link = page.find_elements("css selector", ".card a")[3].get_attribute("href")
    assert link == address(report.parent / "images" / "trained" / "00001-0.png")
    assert (report.parent / "images" / "trained" / "00001-0.png").is_file()


@pytest.mark.parametrize(("sort", "first"), [("second", 58), ("first", 59), ("close", 5)])
def test_sorting_by_margin_puts_the_extreme_first(page, sort, first):
    choose(page, "sort", sort)
    assert shown_prompts(page)[0] == first


@pytest.mark.parametrize(("outcome", "expected"), [
    ("disagree", [5, 15, 25, 35, 45, 55]),
    ("tie", [5, 15, 25, 35, 45, 55]),
    ("failed", [24, 49]),
])  # fmt: skip
def test_filter_by_outcome_shows_those_pairs_alone(page, outcome, expected):
    choose(page, "outcome", outcome)
    assert shown_prompts(page) == expected


def test_filter_by_criterion_shows_who_was_better_on_it(page):
    choose(page, "criterion", "2:1")  # the trained model better on the second: where the base wins and 4 divides i
    assert shown_prompts(page) == []
    choose(page, "criterion", "2:0")
    assert shown_prompts(page) == [i for i in range(0, 60, 4) if i % 25 != 24]


def test_filter_by_words_of_the_prompt(page):
    page.find_element("id", "search").send_keys("owl NUMBER")
    page.execute_async_script("setTimeout(arguments[0], 400)")  # it waits until typing pauses
    assert shown_prompts(page) == list(range(0, 60, 3))
    assert page.find_element("id", "count").text == "20 pairs"


def test_winner_reasons_and_criteria_stand_with_the_pair(page):
    card = cards(page)[0]
    assert "Reason 0 </script>" in card.text  # as text, not as markup
    assert card.find_element("css selector", ".winner figcaption").text.startswith("trained")
    card.find_element("css selector", "summary").click()
    assert "1. It is bright: trained" in card.text
    assert "sharpness: 0.2500 and 0.5000" in card.text


def test_links_to_disagreements_and_failures_lead_to_them(page):
    assert "In 6 of 58 comparisons" in page.find_element("id", "disagreements").text
    page.find_element("css selector", "#failures button").click()
    assert shown_prompts(page) == [24, 49]
    assert "2 × The server did not answer." in page.find_element("id", "failures").text


def test_keyboard_turns_pages_and_finds_the_search(page):
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    body = page.find_element("css selector", "body")
    page.execute_script("document.activeElement.blur()")
    body.send_keys(keys.ARROW_RIGHT)
    assert shown_prompts(page)[0] == 24
    body.send_keys(keys.ARROW_LEFT)
    assert shown_prompts(page)[0] == 0
    body.send_keys("/")
    assert page.switch_to.active_element.get_attribute("id") == "search"
    page.switch_to.active_element.send_keys(keys.ARROW_RIGHT)  # moves in the text, not the page
    assert shown_prompts(page)[0] == 0
    reached = set()
    for _ in range(8):
        page.switch_to.active_element.send_keys(keys.TAB)
        reached.add(page.switch_to.active_element.tag_name)
    assert {"a", "summary"} <= reached


def test_curves_rubric_and_settings_are_there(page):
    assert page.execute_script("return document.querySelectorAll('#charts canvas').length") == 3
    assert "2. It is blue & <b>bold</b>." in page.find_element("id", "rubric").text
    assert '"num_inference_steps": 30' in page.find_element("id", "settings").text


def test_phone_needs_no_sideways_scrolling(report):
    with chromium(width=400) as page:
        page.get(address(report))
        assert page.execute_script("return document.documentElement.scrollWidth") <= 400
        assert complaints(page) == []


def test_dark_and_light_follow_the_reader(page):
    papers = []
    for scheme in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        papers.append(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(20, 23, 26)", "rgb(255, 255, 255)"]


def test_report_without_a_judge_says_so(tmp_path):
    from dataclasses import replace

    evaluation, pairs, rows = made_up(tmp_path, prompts=3)
    pairs = [replace(pair, winner=None, failure="No judge was asked.", criteria=(), orders=()) for pair in pairs]
    found = {**evaluation.comparisons[0], "win_rate": None, "criteria": []}
    text = write_report(tmp_path, replace(evaluation, judge=None, comparisons=[found]), pairs, rows).read_text()
    assert "No judge was asked." in text
    assert 'id="failures"' not in text
