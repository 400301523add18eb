"""A painter whose pictures come from a function: what is tested is what becomes of them."""

from dataclasses import dataclass

import numpy as np

from arr_trl.judges.questions import content_key
from arr_trl.pairs.painter import source_digests
from arr_trl.policies import FlowPolicy
from arr_trl.tiny_scenes.edits import Edit, Placed, apply, draw
from arr_trl.tiny_scenes.preferences import draw_with_faults
from arr_trl.tiny_scenes.scenes import Caption, read


@dataclass
class _Policy:
    editing: bool
    may_edit: bool = False
    needs_mask: bool = False

    edits = FlowPolicy.edits.__func__


class StubPainter:
    """`make(prompt, source, seed)` is the picture; `drawn` counts how often each file was made."""

    name = "stub"

    def __init__(self, folder, make, editing=False, **policy):
        self.folder, self.make, self.policy = folder, make, _Policy(editing, **policy)
        self.drawn = []
        folder.mkdir(exist_ok=True)

    def draw(self, wanted, on_drawn=lambda count: None):
        paths = []
        for one in wanted:
            path = self.folder / f"{content_key(one.prompt, source_digests(one.source), one.seed)}.png"
            if not path.is_file():
                self.make(one.prompt, one.source, one.seed).save(path)
                self.drawn.append(path)
            paths.append(path)
            on_drawn(1)
        return paths

    def rest(self):
        pass


def with_faults(prompt, source, seed):
    """A picture of a caption in which much is wrong."""
    return draw_with_faults(Caption.parse(prompt), 0.4, np.random.default_rng(seed))[0]


def edited(prompt, source, seed):
    """The picture with what the instruction asks for done, and everything else as it was."""
    objects = [Placed(o.color, o.shape, "", o.x, o.y, 5.6 if o.area > 40 else 2.5) for o in read(source)]
    return draw(apply(Edit.parse(prompt), objects, np.random.default_rng(seed)))
