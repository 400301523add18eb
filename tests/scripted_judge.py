"""A judge that says what a test wrote down, and pictures that tell it which of the candidates they are."""

import io

from PIL import Image

from arr_trl.judges import JudgeReward, JudgeStats, Verdict


def picture(number):
    """A candidate that knows its place in the data, as PNG in the storage form of `datasets`."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 100, 200)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def place_of(image):
    return image.getpixel((0, 0))[0]


class ScriptedJudge(JudgeReward):
    """
    `answers[prompt]`, or `answers[prompt, i, j]` of two candidates, is what it says in the order of the data and in the
    other: the place of the candidate it names, `"tie"`, or `None` for no verdict.
    """

    def __init__(self, answers):
        super().__init__(None, 1)
        self.answers = answers
        self.rows = []

    def check(self):
        pass

    def _compare(self, rows):
        self.rows += rows
        return [self._verdict(row) for row in rows], JudgeStats()

    def _verdict(self, row):
        places = [place_of(image) for image in row.images]
        both = self.answers.get((row.prompt, *sorted(places)), self.answers.get(row.prompt))
        said = both[places[0] > places[1]]
        if said is None:
            return Verdict(failure="it said nothing.")
        if said == "tie":
            return Verdict(ranks=(1.5, 1.5))
        return Verdict(winner=places.index(said), ranks=(1, 2) if places[0] == said else (2, 1))
