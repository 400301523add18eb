"""The voting page as raters use it, in a browser; and the same in the report, without a server."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from browser import address, chromium, complaints
from made_up_evaluation import made_up
from voting_pairs import voting_pairs

from arr_trl.data.preferences import load_preferences
from arr_trl.evaluation import write_report
from arr_trl.votes import VoteBook, VotingServer, read_votes
from arr_trl.votes.server import sides_of


EVIL = '<img src=x onerror="document.title=\'pwned\'"></script><script>document.title="pwned"</script> {}'


@pytest.fixture(scope="module")
def page():
    with chromium() as page:
        yield page


@pytest.fixture(scope="module")
def phone():
    with chromium(width=400) as page:
        yield page


@pytest.fixture
def book(tmp_path):
    return VoteBook(tmp_path / "votes.jsonl")


def serving(folder, book, count=3, **settings):
    server = VotingServer(voting_pairs(folder, count, **settings), book, "pairs.jsonl")
    server.__enter__()
    server.wait_until_read()
    return server


@pytest.fixture
def server(tmp_path, book):
    server = serving(tmp_path, book)
    yield server
    server.__exit__()


def opened(page, url, rater="ann"):
    page.get(f"{url}?rater={rater}")
    until(page, lambda: not page.find_element("id", "vote").get_attribute("hidden") and count(page))


def until(page, found, seconds=20):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, page.find_element("css selector", "body").text
        time.sleep(0.01)


def count(page):
    return page.find_element("id", "vote-count").text


def press(page, key):
    """A key, and what it leads to: the count, or the pair, is another one."""
    before = count(page), prompt(page)
    page.find_element("css selector", "body").send_keys(key)
    until(page, lambda: (count(page), prompt(page)) != before)


def prompt(page):
    return page.find_element("id", "vote-prompt").get_attribute("textContent")


def ranks(book):
    return {row["pair"]: row["label_rank"] for row in book.rows()}


def test_keys_vote_and_each_side_is_the_picture_that_stands_there(page, server, book):
    opened(page, server.url)
    assert count(page) == "0 of 3"
    for key in ("1", "2", "0"):
        press(page, key)
    left = {f"k{i}": sides_of(f"k{i}", "ann").index("left") for i in range(3)}
    assert ranks(book) == {
        "k0": [1, 2] if left["k0"] == 0 else [2, 1],
        "k1": [2, 1] if left["k1"] == 0 else [1, 2],
        "k2": [1, 1],
    }
    assert page.find_element("id", "vote-end").text == "All 3 pairs are voted on."
    assert complaints(page) == []


@pytest.mark.slow
def test_the_pictures_that_are_seen_are_those_of_the_sides(page, server):
    opened(page, server.url)
    seen = page.execute_async_script("""
        const done = arguments[0];
        Promise.all(["left", "right"].map(async (side) => {
          const image = document.getElementById(`image-${side}`);
          await image.decode();
          const canvas = document.createElement("canvas");
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0, 1, 1);
          return context.getImageData(0, 0, 1, 1).data[1];
        })).then(done);
    """)
    assert seen == [sides_of("k0", "ann").index(side) for side in ("left", "right")]


def test_skip_and_undo_and_what_was_said_comes_back(page, server, book):
    opened(page, server.url)
    page.find_element("css selector", "#faults-left button:nth-child(7)").click()
    page.find_element("css selector", "body").send_keys("r")
    reason = page.switch_to.active_element
    assert reason.get_attribute("id") == "reason"
    reason.send_keys("1 of 2 hands is wrong")  # letters and digits are words here, and no votes
    assert book.rows() == []
    reason.send_keys("\ue007")  # enter
    press(page, "2")
    press(page, "s")
    (row,) = book.rows()
    assert row["rationale"] == "1 of 2 hands is wrong"
    assert sorted(row["faults"]) == [[], ["anatomy"]]
    press(page, "u")
    assert prompt(page) == "a picture 1"
    press(page, "u")
    assert prompt(page) == "a picture 0"
    assert page.find_element("id", "reason").get_attribute("value") == "1 of 2 hands is wrong"
    assert page.find_element("css selector", '#faults-left button[aria-pressed="true"]').text == "anatomy"
    assert not page.find_element("id", "undo").is_enabled()
    assert book.rows() == []


@pytest.mark.slow
def test_buttons_do_what_keys_do(page, server, book):
    opened(page, server.url)
    page.find_element("css selector", '[data-choice="tie"]').click()
    until(page, lambda: count(page) == "1 of 3")
    assert ranks(book) == {"k0": [1, 1]}
    page.find_element("id", "undo").click()
    until(page, lambda: count(page) == "0 of 3")
    assert ranks(book) == {}


@pytest.mark.slow
def test_two_raters_each_vote_on_all_pairs_and_the_page_tells_how_they_agree(page, server, book):
    for rater in ("ann", "bob"):
        opened(page, server.url, rater)
        assert count(page) == "0 of 3"
        for _ in range(3):
            page.execute_script("document.activeElement.blur()")
            # both mean the first picture of the data
            press(page, "1" if sides_of(f"k{len(book.done(rater))}", rater) == ("left", "right") else "2")
    assert [(row["rater"], row["label_rank"]) for row in book.rows()] == [
        (rater, [1, 2]) for rater in ("ann", "bob") for _ in range(3)
    ]
    page.get(f"{server.url}agreement")
    text = page.find_element("css selector", "main").text
    assert "Between raters" in text
    assert "ann bob 3 100% 1.00" in text
    assert complaints(page) == []


@pytest.mark.slow
def test_another_name_in_the_field_is_another_rater(page, server):
    opened(page, server.url)
    press(page, "1")
    field = page.find_element("id", "rater")
    field.clear()
    field.send_keys("carl\t")
    until(page, lambda: count(page) == "0 of 3")
    opened(page, server.url.rstrip("/") + "/", "ann")
    assert count(page) == "1 of 3"


@pytest.mark.slow
def test_a_server_that_ended_is_told_and_a_new_one_goes_on(page, tmp_path, book):
    first = serving(tmp_path, book)
    opened(page, first.url)
    press(page, "1")
    first.__exit__()
    # a connection that is open would go on within this process
    page.execute_script("window.fetch = () => Promise.reject(new TypeError())")
    page.find_element("css selector", "body").send_keys("1")
    until(page, lambda: page.find_element("id", "vote-error").is_displayed())
    assert "`arr-trl vote`" in page.find_element("id", "vote-error").text
    again = serving(tmp_path, VoteBook(book.path))
    opened(page, again.url)
    assert (count(page), prompt(page)) == ("1 of 3", "a picture 1")
    again.__exit__()


def test_prompts_and_reasons_are_text(page, tmp_path, book):
    server = serving(tmp_path, book, prompt=EVIL)
    opened(page, server.url, "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    assert prompt(page) == EVIL.format(0)
    page.find_element("id", "reason").send_keys(EVIL, "\ue007")
    press(page, "1")
    press(page, "u")
    assert page.find_element("id", "reason").get_attribute("value") == EVIL
    press(page, "1")
    page.get(f"{server.url}agreement")
    assert "<img src=x onerror=alert(1)>" in page.find_element("css selector", "main").text
    assert "pwned" not in page.title
    assert complaints(page) == []
    server.__exit__()


@pytest.mark.slow
def test_nothing_is_asked_of_anybody_else(page, server):
    opened(page, server.url)
    press(page, "1")
    asked = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert asked
    assert all(url.startswith((server.url, "data:")) for url in asked)


@pytest.mark.slow
def test_a_thousand_pairs_are_voted_on_without_waiting(page, tmp_path, book):
    (pair,) = voting_pairs(tmp_path, 1)
    pairs = [replace(pair, key=f"p{i}", prompt=f"{i}") for i in range(1000)]
    server = VotingServer(pairs, book, "many")
    server.__enter__()
    server.wait_until_read()
    for pair in pairs[:990]:
        book._connection.execute("INSERT INTO pairs VALUES (?, ?)", (pair.key, json.dumps(pair.row())))
        book._connection.execute(
            "INSERT INTO votes (rater, pair, choice, reason, faults, time) VALUES ('ann', ?, '0', '', '[[], []]', 'now')",
            (pair.key,),
        )
    book._connection.commit()
    opened(page, server.url)
    assert (count(page), prompt(page)) == ("990 of 1,000", "990")
    for _ in range(10):
        press(page, "2")
    assert page.find_element("id", "vote-end").text == "All 1,000 pairs are voted on."
    assert len(read_votes(book.path)) == 1000
    server.__exit__()


@pytest.mark.slow
def test_a_phone_shows_both_pictures_and_all_buttons_without_scrolling_sideways(phone, server, book):
    opened(phone, server.url)
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 400
    left, right = (phone.find_element("id", f"image-{side}").rect for side in ("left", "right"))
    assert left["width"] > 150
    assert left["y"] == right["y"]
    phone.find_element("css selector", '[data-choice="right"]').click()
    until(phone, lambda: count(phone) == "1 of 3")
    phone.get(f"{server.url}agreement")
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 400
    assert complaints(phone) == []


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    return write_report(folder, *made_up(folder, prompts=6))


@pytest.fixture
def voting(page, report):
    page.get(address(report) + "?rater=ann")
    page.execute_script("localStorage.clear()")
    page.get(address(report) + "?rater=ann")
    page.find_element("css selector", "#voting summary").click()
    until(page, lambda: count(page) == "0 of 6")
    return page


def saved(page):
    return [json.loads(line) for line in page.execute_script("return ballot.lines()")]


def test_votes_in_the_report_are_kept_in_the_browser_and_read_as_preferences(voting, report):
    page = voting
    chosen = []
    for key in ("1", "2", "0", "s"):
        chosen.append(page.find_element("id", f"link-{'right' if key == '2' else 'left'}").get_attribute("href"))
        press(page, key)
    page.get(address(report) + "?rater=ann")  # the browser was closed
    page.find_element("css selector", "#voting summary").click()
    until(page, lambda: count(page) == "4 of 6")
    rows = saved(page)
    (report.parent / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(read_votes(report.parent / "votes.jsonl")) == 3
    pairs = list(load_preferences(str(report.parent / "votes.jsonl")))
    better = [rows[i]["images"][pairs[i].winner] for i in range(2)]
    assert [Path(link).name for link in chosen[:2]] == [Path(path).name for path in better]
    assert [link.endswith(path) for link, path in zip(chosen, better, strict=False)] == [True, True]
    assert rows[2]["label_rank"] == [1, 1]
    assert {row["rater"] for row in rows} == {"ann"}
    assert complaints(page) == []


@pytest.mark.slow
def test_a_vote_in_the_report_is_taken_back(voting):
    press(voting, "1")
    press(voting, "u")
    assert saved(voting) == []
    assert not voting.find_element("id", "save-votes").is_enabled()


@pytest.mark.slow
def test_votes_of_the_report_are_saved_as_a_file(voting, tmp_path):
    press(voting, "1")
    voting.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    voting.find_element("id", "save-votes").click()
    until(voting, lambda: (tmp_path / "votes.jsonl").is_file())
    assert len(read_votes(tmp_path / "votes.jsonl")) == 1


@pytest.mark.slow
def test_keys_of_the_gallery_do_not_vote_and_votes_do_not_turn_pages(page, report):
    for _ in range(2):
        page.get(address(report) + "?rater=ann")
        page.execute_script("localStorage.clear()")
    page.find_element("css selector", "body").send_keys("12")  # the panel is closed
    assert saved(page) == []


@pytest.mark.slow
def test_sides_in_the_report_are_drawn_evenly(page, report):
    page.get(address(report))
    drawn = page.execute_script("""
        return ["ann", "bob"].map((rater) => [...Array(500).keys()].map((i) => swappedFor(`base|trained|${i}|0`, rater)));
    """)
    for of_rater in drawn:
        assert 200 < sum(of_rater) < 300
    assert 200 < sum(a == b for a, b in zip(*drawn, strict=True)) < 300
