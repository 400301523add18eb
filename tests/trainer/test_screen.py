"""What is on the screen while a run goes: on a terminal of 80 columns, and in a file."""

import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console
from scripted_judge import ScriptedJudge
from transformers import TrainerState

from arr_trl import RubricJudge
from arr_trl.judges import JudgeRow
from arr_trl.tiny_scenes import TinyScenesJudge, prompts
from arr_trl.tiny_scenes.judge import zero_shot_rubric
from arr_trl.trainer import screen as module
from arr_trl.trainer.screen import Screen, follow_judges, in_words


LOGS = {"policy/kl": 0.012345, "rollout/decided_rate": 0.7, "grad_norm": 1.0}
EVALUATION = {"eval_win_rate": 0.625, "eval_tie_rate": 0.1, "eval_success_all": 0.5, "eval_runtime": 12.3}
ARGS = SimpleNamespace(gradient_accumulation_steps=112)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told."""
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def run(screen, clock, steps=(10.0, 12.0), total=10, between=lambda: None, logs=LOGS):
    """Steps that take so many seconds, each with a log behind it."""
    state = TrainerState(max_steps=total)
    with screen.showing():
        screen.on_train_begin(ARGS, state, None)
        for seconds in steps:
            screen.on_step_begin(ARGS, state, None)
            between()
            clock.now += seconds
            state.global_step += 1
            screen.on_step_end(ARGS, state, None)
            screen.on_log(ARGS, state, None, logs=logs)
        screen.on_log(ARGS, state, None, logs=EVALUATION)


def pictures(i):
    return tuple(Image.new("RGB", (32, 32), color) for color in ((i, 0, 0), (i, 255, 0)))


def rendered(screen, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(screen, end="")
    return console.file.getvalue().splitlines()


def test_a_file_gets_what_a_step_and_the_run_take_after_the_first_step_and_a_line_for_each_log(clock):
    console = Console(file=io.StringIO(), width=40)  # in which nothing is broken
    run(Screen(console=console), clock)
    assert console.file.getvalue().splitlines() == [
        "The first step took 10 s; the other 9 take about 90 s.",
        "step 1/10, 0:01:30 left: decided 70%, KL 0.012",
        "step 2/10, 0:01:28 left: decided 70%, KL 0.012",
        "step 2/10: evaluation: win rate 62.5%, ties 10%, success 50.0%, took 12 s",
    ]


def test_bar_step_and_time_left_stand_above_as_many_numbers_as_there_is_room_for(clock):
    screen, lines = Screen(console=Console(file=io.StringIO())), {}

    def look():
        screen.doing("drawing", 12, 32)
        screen.doing("judging", lambda: 8, 64)
        lines.update({width: rendered(screen, width) for width in (80, 49)})

    run(screen, clock, between=look, total=2_000)
    for width, (first, second, *more) in lines.items():
        assert not more
        assert re.fullmatch(r"step    1/2000 [━╸╺ ]{4,30} 5:33:10 left, 10 s a step *", first)
        assert second.startswith("drawing 12/32, judging 8/64, decided 70%")
        assert ("KL" in second) == (width == 80)
        assert max(len(first), len(second)) <= width


def test_what_is_through_makes_room_for_what_goes_on(clock):
    screen = Screen(console=Console(file=io.StringIO()))
    screen.doing("drawing", 32, 32)
    assert screen.words == "drawing 32/32"
    screen.doing("judging", 3, 64)
    assert screen.words == "judging 3/64"
    screen.doing("judging", 64, 64)
    screen.training(112)
    screen.on_substep_end(ARGS, None, None)
    assert screen.words == "training 1/112"


def test_the_next_step_begins_with_nothing_done(clock):
    screen, words = Screen(console=Console(file=io.StringIO())), []

    def two_micro_steps():
        words.append(screen.words)
        for _ in range(2):
            screen.on_substep_end(ARGS, None, None)
        words.append(screen.words)

    run(screen, clock, between=two_micro_steps)
    assert words == ["", "training 2/112"] * 2


def test_time_left_waits_at_an_evaluation_and_counts_it_from_then_on(clock):
    screen, state = Screen(console=Console(file=io.StringIO())), TrainerState(max_steps=4)
    screen.on_train_begin(ARGS, state, None)
    for evaluation in (100.0, 0.0):
        screen.on_step_begin(ARGS, state, None)
        clock.now += 10
        state.global_step += 1
        screen.on_step_end(ARGS, state, None)
        clock.now += evaluation
    first, _ = rendered(screen, 80)
    assert "0:02:00 left, 10 s a step" in first  # (10 + 100 + 10) / 2 for each of the other two
    clock.now += 1_000  # in an evaluation
    assert "0:01:00 left" in rendered(screen, 80)[0]  # of at most a step it is known that it is going on


def test_a_run_of_two_steps_is_told_of_the_other_and_one_of_a_single_step_of_none(clock):
    said = []
    for total in (2, 1):
        run(Screen(console=(console := Console(file=io.StringIO()))), clock, [3.0], total)
        said.append(console.file.getvalue().splitlines()[0])
    assert said == ["The first step took 3.0 s; the other takes about 3.0 s.", "The first step took 3.0 s."]


def test_nothing_is_shown_by_the_other_processes(clock):
    console = Console(file=io.StringIO())
    run(Screen(shown=False, console=console), clock)
    assert console.file.getvalue() == ""


def test_a_long_step_says_how_far_it_is_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(module, "_SILENCE_S", 0)
    written = threading.Event()

    class Written(io.StringIO):
        def write(self, text):
            written.set()
            return super().write(text)

    screen = Screen(console=Console(file=Written()))
    with screen.showing():
        screen.on_train_begin(ARGS, TrainerState(max_steps=10), None)
        screen.doing("drawing", 12, 32)
        assert written.wait(30)
    assert screen.console.file.getvalue().startswith("step 0/10: drawing 12/32\n")


class Noticed(TinyScenesJudge):
    """Replies one after the other, and looks at the screen before each."""

    def complete(self, requests, on_reply=None):
        replies = super().complete(requests)
        for n, reply in enumerate(replies):
            self.look()
            on_reply(n, reply)
        return replies


def test_questions_are_counted_while_a_judge_answers_them_and_those_that_its_store_answers():
    screen, seen = Screen(console=Console(file=io.StringIO())), []
    model = Noticed()
    model.look = lambda: seen.append(screen.words)
    judge = RubricJudge(model=model, rubric=zero_shot_rubric(), order="both")
    rows = [JudgeRow(prompts("train")[i]["prompt"], pictures(i)) for i in (0, 1)]
    for _ in range(2):  # the second time nobody is asked
        follow_judges(screen, [judge], 2, 2)
        assert screen.words == "judging 0/4"
        judge.compare(rows)
        assert screen.words == "judging 4/4"
    assert seen == [f"judging {n}/4" for n in range(4)]


def test_a_judge_that_does_not_count_is_through_with_the_prompts_that_it_was_asked_about():
    screen, begun = Screen(console=Console(file=io.StringIO())), []
    follow_judges(screen, [ScriptedJudge({})], 6, 2, begun)
    begun += [(Future(), 4), (Future(), 2)]
    assert screen.words == "judging 0/6"
    begun[0][0].set_result(None)
    assert screen.words == "judging 4/6"


def on_a_terminal(columns, show):
    """What `show()` writes in a process with a terminal of its own."""
    process, master = pty.fork()
    if process == 0:
        status = 1
        try:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            for name in ("COLUMNS", "LINES", "NO_COLOR"):
                os.environ.pop(name, None)
            os.environ["TERM"] = "xterm"
            show(Console(file=os.fdopen(1, "w")))
            status = 0
        finally:
            os._exit(status)
    written = b""
    try:
        while data := os.read(master, 65_536):
            written += data
    except OSError:  # what the end of a terminal is on Linux
        pass
    os.close(master)
    assert os.waitpid(process, 0)[1] == 0
    return written.decode()


def lines_on(written, columns):
    """The lines that stand on a terminal in the end, and all that ever stood on it."""
    lines, row, column, ever = [""], 0, 0, []
    for code, text in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z]|[\r\n])|([^\x1b\r\n]+)", written):
        if code == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif code == "\r":
            column = 0
        elif code.endswith("A"):
            row -= int(code[2:-1])
        elif code == "\x1b[2K":
            lines[row] = ""
        elif text:
            assert column + len(text) <= columns, f"{text!r} is broken over two lines"
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
            ever.append(lines[row])
    return [line.rstrip() for line in lines if line], ever


def test_two_lines_are_never_broken_on_a_terminal_of_80_columns(clock):
    def show(console):
        screen = Screen(console=console)

        def doing():
            screen.doing("drawing", 1_012, 1_032)
            screen._live.refresh()

        many = {name: 0.123456 for name, _, _ in module._SHOWN if not name.startswith("eval_")}
        run(screen, clock, between=doing, logs=LOGS | many)

    lines, ever = lines_on(on_a_terminal(80, show), 80)
    assert lines[0] == "The first step took 10 s; the other 9 take about 90 s."
    assert lines[1] == "step 2/10: evaluation: win rate 62.5%, ties 10%, success 50.0%, took 12 s"
    assert re.fullmatch(r"step  2/10 [━╸╺]{30} 0:01:28 left, 11 s a step", lines[2])
    assert lines[3].startswith("win rate 62.5%, success 50.0%, reward 0.123, accuracy 12.3%")
    assert len(lines) == 4
    assert any(line.startswith("drawing 1012/1032, reward 0.123") for line in ever)
    assert any("step  0/10" in line and "-:--:-- left" in line for line in ever)


def test_an_evaluation_after_the_training_says_nothing_of_its_steps_and_leaves_nothing(clock):
    def show(console):
        screen = Screen(console=console)
        run(screen, clock)
        with screen.showing():
            screen.doing("judging", 3, 4)
            screen._live.refresh()

    lines, ever = lines_on(on_a_terminal(80, show), 80)
    assert "judging 3/4" in [line.rstrip() for line in ever]
    assert [line for line in lines if "decided" in line or "judging" in line] == lines[-1:]


def test_lengths_of_time_have_about_two_digits():
    told = [in_words(seconds) for seconds in (0.123, 1.26, 9.96, 99.4, 99.6, 600, 5_960, 5_980, 100_000)]
    assert told == ["0.12 s", "1.3 s", "10 s", "99 s", "1.7 min", "10 min", "99 min", "1.7 h", "28 h"]
