"""The report as a reader uses it: in a browser, from disk, without a network."""

import json
import re
from dataclasses import replace

import pytest
from browser import address, chromium, complaints
from made_up_evaluation import color_of, made_up
from PIL import Image

from arr_trl.evaluation import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "run").mkdir()
    history = [
        {"step": s, "policy/kl": s / 100, "judge/tie_rate": 0.3, "eval_win_rate": 0.5 + s / 100} for s in range(1, 4)
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


def all_prompts(page) -> list[int]:
    """Of every page."""
    return page.execute_script("return shown.map((item) => item.pairs[0].p)")


def press(page, *keys) -> None:
    for key in keys:
        page.switch_to.active_element.send_keys(key)


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
    assert shown_prompts(page) == list(range(8))
    page.find_element("id", "next").click()
    assert shown_prompts(page) == list(range(8, 16))
    page.find_element("id", "previous").click()
    assert shown_prompts(page) == list(range(8))


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
    wanted = [color_of(model, prompt) for prompt in range(8, 16) for model in ("base", "trained")]
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
    assert all_prompts(page) == [i for i in range(0, 60, 4) if i % 25 != 24]


def test_filter_by_words_of_the_prompt(page):
    page.find_element("id", "search").send_keys("owl NUMBER")
    page.execute_async_script("setTimeout(arguments[0], 400)")  # it waits until typing pauses
    assert all_prompts(page) == list(range(0, 60, 3))
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
    assert shown_prompts(page)[0] == 8
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


def test_curves_that_matter_are_there_and_the_others_where_they_are_asked_for(page):
    def drawn(box):
        return page.execute_script("return document.querySelectorAll(`#${arguments[0]} canvas`).length", box)

    assert drawn("charts") == 2  # win rate and KL
    assert drawn("diagnostics") == 0
    page.find_element("css selector", "#more-curves summary").click()
    page.execute_async_script("setTimeout(arguments[0], 200)")
    assert drawn("diagnostics") == 1
    assert page.find_elements("css selector", ".u-legend") == []
    assert "step 3: 0.53" in page.find_element("id", "charts").text


def test_steps_are_whole_numbers_and_one_half_has_a_line(page):
    # what the canvas is told to draw: its pixels say little
    script = """
        const found = { texts: [], lines: 0 };
        const prototype = CanvasRenderingContext2D.prototype;
        const [text, dashes] = [prototype.fillText, prototype.setLineDash];
        prototype.fillText = function (...of) { found.texts.push(of[0]); return text.apply(this, of); };
        prototype.setLineDash = function (of) { found.lines += of.length === 2 && of[0] === 6; return dashes.call(this, of); };
        charts(byId("charts"), chief.filter((chart) => chart.half === arguments[0]));
        const done = arguments[1];
        requestAnimationFrame(() => setTimeout(() => {
          [prototype.fillText, prototype.setLineDash] = [text, dashes];
          drawCharts();
          done(found);
        }, 100));
    """
    found = page.execute_async_script(script, True)
    assert {"1", "2", "3"} <= set(found["texts"])
    assert not {"1.5", "2.5"} & set(found["texts"])
    assert found["lines"] > 0
    assert page.execute_async_script(script, False)["lines"] == 0


def test_rubric_and_settings_are_there(page):
    assert "2. It is blue & <b>bold</b>." in page.find_element("id", "rubric").text
    assert '"num_inference_steps": 30' in page.find_element("css selector", "#settings pre").get_attribute(
        "textContent"
    )


def test_page_begins_with_what_was_found_and_the_clearest_win(report, page):
    page.get(address(report))
    assert "These 60 prompts show no difference between trained and its base: 55% (43 to 67)" in page.page_source
    assert shown_prompts(page)[:2] == [58, 56]
    assert page.execute_script(
        "return byId('gallery').getBoundingClientRect().top < byId('figures').getBoundingClientRect().top"
    )


def test_pictures_are_320_pixels_wide_and_two_pairs_stand_in_a_row(page):
    first, second = (card.rect for card in cards(page)[:2])
    assert first["y"] == second["y"]
    assert all(image.rect["width"] >= 320 for image in page.find_elements("css selector", ".card img"))


def test_reasons_name_the_models(page):
    choose(page, "sort", "prompt")
    assert "Reason 0 </script>: trained is blue, base is not" in cards(page)[0].text
    cards(page)[0].find_element("css selector", "summary").click()
    assert "Other reason 0: trained and base" in cards(page)[0].text


def test_picture_opens_and_the_other_takes_its_place(page, report):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    def picture():
        page.execute_async_script("byId('lightbox-picture').decode().catch(() => 0).then(arguments[0])")
        return page.find_element("id", "lightbox-picture").get_attribute("src")

    full = [address(report.parent / "images" / model / "00000-0.png") for model in ("base", "trained")]
    page.execute_script("arguments[0].focus()", cards(page)[0].find_elements("css selector", "a")[0])
    press(page, Keys.ENTER)
    assert picture() == full[0]
    assert page.execute_script("return byId('lightbox-picture').naturalWidth") == 32  # it was read from the file
    press(page, Keys.ARROW_RIGHT)
    assert picture() == full[1]
    press(page, Keys.ARROW_RIGHT)
    assert picture() == full[0]
    press(page, *[Keys.ARROW_DOWN] * 8)  # onto the next page
    assert picture() == full[0].replace("00000", "00008")
    assert shown_prompts(page)[0] == 8
    press(page, Keys.ESCAPE)
    assert page.execute_script("return byId('lightbox').open") is False
    # the focus follows the dialog's `close` event, which comes in a task of its own
    focused = "return document.activeElement.closest('.card')?.dataset.prompt"
    WebDriverWait(page, 10).until(lambda page: page.execute_script(focused) == "8")


def test_lightbox_shows_what_is_in_the_file_when_the_pictures_are_gone(report, page, tmp_path):
    alone = tmp_path / "report.html"
    alone.write_bytes(report.read_bytes())
    page.get(address(alone))
    page.execute_script("openLightbox(0, picturesOf(shown[0])[0].index)")
    page.execute_async_script("setTimeout(arguments[0], 300)")
    assert page.find_element("id", "lightbox-picture").get_attribute("src").startswith("data:image/webp")
    assert page.execute_script("return byId('lightbox-picture').naturalWidth") == 32
    complaints(page)  # of the missing file
    page.get(address(report))


def test_phone_needs_no_sideways_scrolling_and_cuts_nothing(report):
    with chromium(width=400) as page:
        page.get(address(report))
        page.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
        assert page.execute_script("return document.documentElement.scrollWidth") <= 400
        cut = "return [...document.querySelectorAll('.wide, td, th, .card, .answer')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
        assert page.execute_script(cut) == 0
        assert complaints(page) == []


@pytest.fixture(scope="module")
def three_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    return write_report(folder, *made_up(folder, prompts=6, models=("base", "trained", "later")))


def test_two_adapters_and_their_base_stand_side_by_side(three_models, page):
    page.get(address(three_models))
    card = next(card for card in cards(page) if card.get_attribute("data-prompt") == "0")
    captions = [caption.text for caption in card.find_elements("css selector", "figcaption")]
    assert captions == ["base", "trained", "later ✓"]
    for said in (
        "trained against base: trained wins",
        "later against base: later wins",
        "later against trained: later wins",
    ):
        assert said in card.text
    choose(page, "pair", "2")
    assert all(len(card.find_elements("css selector", "img")) == 2 for card in cards(page))
    for sentence in ("between trained and its base", "between later and its base", "between later and trained"):
        assert sentence in page.find_element("id", "answer").text
    assert complaints(page) == []


def test_dark_and_light_follow_the_reader(page):
    papers = []
    for scheme in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        papers.append(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(20, 23, 26)", "rgb(255, 255, 255)"]


def test_masks_stand_behind_sources_and_lie_beside_the_report(tmp_path):
    evaluation, pairs, rows = made_up(tmp_path, prompts=2)
    source, mask = Image.new("RGB", (32, 32), "gray"), Image.new("L", (8, 8), 255)
    rows = [row | {"source_image": source, "mask_image": mask} for row in rows]
    text = write_report(tmp_path, evaluation, pairs, rows).read_text()
    assert '"sources":4,"masks":6' in text  # thumbnails: of two models and two prompts, of sources, of masks
    assert Image.open(tmp_path / "images" / "mask" / "00001.png").getpixel((0, 0)) == (255, 255, 255)
    assert Image.open(tmp_path / "images" / "source" / "00001.png").getpixel((0, 0)) == (128, 128, 128)


def test_report_without_a_judge_says_so(tmp_path):
    from dataclasses import replace

    evaluation, pairs, rows = made_up(tmp_path, prompts=3)
    pairs = [replace(pair, winner=None, failure="No judge was asked.", criteria=(), orders=()) for pair in pairs]
    found = {**evaluation.comparisons[0], "win_rate": None, "criteria": []}
    text = write_report(tmp_path, replace(evaluation, judge=None, comparisons=[found]), pairs, rows).read_text()
    assert "No judge was asked." in text
    assert "By sharpness: this" not in text
    assert "By sharpness: trained is better than its base on these 3 prompts" not in text
    assert "By sharpness: These 3 prompts show no difference" in text
    assert 'id="failures"' not in text


def test_one_base_has_one_name_in_the_reports_of_a_run_and_of_an_evaluation(tmp_path):
    evaluation, pairs, rows = made_up(tmp_path, prompts=2, size=8)
    cached = tmp_path / "models--user--tiny-flux" / "snapshots" / "0123abc"
    for base in ("tiny_scenes", "user/tiny-flux", str(cached), str(tmp_path / "tiny-flux")):
        text = write_report(tmp_path, replace(evaluation, base_model=base), pairs, rows).read_text()
        assert "<title>trained against tiny-flux</title>" in text
