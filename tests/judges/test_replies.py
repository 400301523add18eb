"""What counts as an answer: one JSON object, whatever servers and models put around it, and nothing less."""

import pytest

from arr_trl.judges.parsing import ReplyError, parse_reply
from arr_trl.judges.pointwise import score_reply
from arr_trl.judges.ranks import ranks_reply


RIGHT = '{"criteria": [{"criterion": 1, "ranks": [1, 2]}], "reason": "red", "ranks": [1, 2]}'
WRONG = RIGHT.replace("[1, 2]", "[2, 1]")

WRAPPED = {
    "thoughts whose tag the template opens": f"I look.\nMaybe {WRONG}?\n</think>\n\n{RIGHT}",
    "thoughts that begin with a draft": f"{WRONG}\n</think>\n{RIGHT}",
    "thoughts that name their end": f"<think>I end with </think> after {WRONG}</think>{RIGHT}",
    "two thoughts": f"<think>a</think><think>b</think>{RIGHT}",
    "<thinking>": f"<thinking>{WRONG}</thinking>{RIGHT}",
    "Kimi's thoughts": f"◁think▷{WRONG}◁/think▷{RIGHT}",
    "Magistral's thoughts": f"[THINK]{WRONG}[/THINK]{RIGHT}",
    "Seed's thoughts": f"<seed:think>{WRONG}</seed:think>{RIGHT}",
    "fence on one line": f"```json {RIGHT} ```",
    "fence in capitals": f"```JSON\n{RIGHT}\n```",
    "fence of tildes": f"~~~json\n{RIGHT}\n~~~",
    "box": f"<|begin_of_box|>{RIGHT}<|end_of_box|>",
    "thoughts, then a fence in a box": f"x</think>\n<|begin_of_box|>```json\n{RIGHT}\n```<|end_of_box|>",
    "<answer>": f"<think>x</think><answer>{RIGHT}</answer>",
    "byte order mark": f"\ufeff{RIGHT}",
    "end of the turn": f"{RIGHT}<|im_end|>\n</s>",
    "tag in the reason": RIGHT.replace("red", "no </think> in it"),
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_what_stands_around_an_answer_does_not_cost_the_verdict(wrapping):
    assert parse_reply(WRAPPED[wrapping], ranks_reply(2, 1)).ranks == [1, 2]


NO_ANSWER = {
    "thoughts without an end": f"<think>maybe {WRONG}",
    "answer within the thoughts": f"<think>{WRONG}</think>",
    "answer before the end of thoughts": f"{WRONG}</think>",
    "prose before": f"Sure! {RIGHT}",
    "prose after": f"{RIGHT}\nI hope this helps.",
    "prose after the thoughts": f"x</think>The first: {RIGHT}",
    "two answers": f"{WRONG}\n{RIGHT}",
    "a list": f"[{RIGHT}]",
    "half a fence": f"```json\n{RIGHT}",
    "a fence of something else": f"```python\n{RIGHT}\n```",
    "nothing in a fence": "``````",
    "three backticks": "```",
}


@pytest.mark.parametrize("reply", NO_ANSWER)
def test_what_is_no_answer_stays_none(reply):
    with pytest.raises(ReplyError):
        parse_reply(NO_ANSWER[reply], ranks_reply(2, 1))


def test_a_key_given_twice_is_no_verdict_for_the_last():
    for twice in (f'{RIGHT[:-1]}, "ranks": [2, 1]}}', RIGHT.replace("1, 2]}]", '1, 2], "ranks": [2, 1]}]')):
        with pytest.raises(ReplyError, match="the key 'ranks' comes twice"):
            parse_reply(twice, ranks_reply(2, 1))
    with pytest.raises(ReplyError, match="the key 'score' comes twice"):
        parse_reply('{"criteria": [], "reason": "", "score": 1, "score": 9}', score_reply(0, 10, 0))


def test_the_sentence_about_a_reply_shows_its_beginning():
    with pytest.raises(ReplyError, match=r"It begins: I cannot compare these images, sorry$"):
        parse_reply("I cannot compare\n these images, sorry", ranks_reply(2, 1))
    with pytest.raises(ReplyError) as caught:
        parse_reply("no " * 30_000, ranks_reply(2, 1))
    assert len(str(caught.value)) < 300


def test_a_reply_of_any_length_is_read_in_no_time():
    for reply in (" " * 99_999, "```" + " " * 99_000 + "x```", "</s>" * 24_000, "<|a|>" * 19_000, "</think>" * 12_000):
        with pytest.raises(ReplyError):
            parse_reply(reply, ranks_reply(2, 1))
