"""
The block of YAML at the head of a README, changed where a value of ours changes and nowhere else. Comments, quotes, order
and values such as `no` and `1.10`, which a round trip through values would lose, stay to the letter.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

import yaml


# as the Hub's client finds it
_BLOCK = re.compile(
    r"(?P<opening>\s*---(?:\r\n|\r|\n))(?P<yaml>.*?)(?P<newline>\r\n|\r|\n)(?P<closing>---[ \t]*(?:\r\n|\n|\Z))",
    re.DOTALL,
)
# A block whose first line is not `---` alone, or that nothing closes: the Hub finds no values in it, and people mean some.
_ALMOST = re.compile(
    r"\s*---[ \t]*(?:#[^\r\n]*)?(?:\r\n|\r|\n)(?:[ \t]*(?:#[^\r\n]*)(?:\r\n|\r|\n))*[\"']?[\w.-]+[\"']?[ \t]*:(?:[ \t\r\n]|\Z)"
)
_LINE = re.compile(r"[^\r\n]*")
_DASH = re.compile(r"(?P<indent> *)-[ \t]*")


class FrontMatter:
    """
    Keys with the values of a front matter, as text that can be edited.

    Args:
        text (`str`): the YAML, without the `---` lines; empty, or lines that all end in a line end.

    Raises:
        `ValueError`: when it is no YAML, or holds a key twice.
    """

    def __init__(self, text: str = ""):
        self.text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self._edits: list[tuple[int, int, str]] = []
        self._changed: set[str] = set()
        self._added = ""
        try:
            self._mapping = yaml.compose(text, Loader=yaml.SafeLoader)
            self._anchors = [
                token.start_mark.index
                for token in yaml.scan(text, Loader=yaml.SafeLoader)
                if isinstance(token, yaml.AnchorToken | yaml.AliasToken)
            ]
        except yaml.YAMLError as error:
            found = " ".join(str(error).split())
            raise ValueError(
                f"The front matter of README.md cannot be read ({found}); mend or remove the block between its `---` lines."
            ) from None
        self._entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        pairs = self._mapping.value if self.is_mapping else []
        for key, value in pairs:
            if isinstance(key, yaml.ScalarNode):
                if key.value in self._entries:
                    raise _refused(f"has the key `{key.value}` twice; keep the one that is meant")
                self._entries[key.value] = (key, value)
        self._indent = " " * (self._mapping.start_mark.column if self.is_mapping else 0)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._mapping, yaml.MappingNode)

    def value(self, key: str) -> Any:
        """The value of a key as YAML has it, `None` where there is none."""
        return yaml.SafeLoader("").construct_object(self._node(key), deep=True) if key in self._entries else None

    def words(self, key: str) -> list[str]:
        """The value of a key as it is written: one for a scalar, each of a list; what is null or nested is left out."""
        if key not in self._entries:
            return []
        node = self._node(key)
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        return [item.value for item in items if _is_word(item)]

    def put(self, key: str, value: str | None) -> None:
        """Set one word, or remove the key for `None`."""
        if self.words(key) == ([] if value is None else [value]):
            return
        if value is None:
            self._remove(key)
        elif key not in self._entries:
            self.add(key, value)
        else:
            start, end = self._scalar(key)
            self._edit(key, start, end, f" {_written(value)}")

    def add(self, key: str, value: Any) -> None:
        """A key that is not there, at the end."""
        self._added += "".join(self._indent + line + self.newline for line in _dumped({key: value}).splitlines())

    def merge_words(self, key: str, drop: Collection[str], new: Sequence[str]) -> None:
        """Take words off a list and put others behind the rest; a single word becomes a list when there are more."""
        words = self.words(key)
        new = [word for word in dict.fromkeys(new) if word not in words]
        drop = {word for word in words if word in drop}
        if not new and not drop:
            return
        if key not in self._entries:
            self.add(key, new)
            return
        node = self._node(key)
        if isinstance(node, yaml.SequenceNode):
            self._change(
                key, node, {i for i, item in enumerate(node.value) if _is_word(item) and item.value in drop}, new
            )
            return
        start, end = self._scalar(key)
        kept = [] if drop or not words else [self.text[start:end].strip()]
        lines = [f"{self._indent}- {word}" for word in kept + [_written(word) for word in new]]
        if not lines:
            self._remove(key)
            return
        self._edit(key, start, end, "")
        after = _LINE.match(self.text, end).end()
        self._edit(key, after, after, "".join(self.newline + line for line in lines))

    def merge_results(self, adapters: Collection[str], new: Sequence[dict[str, Any]], name: str) -> None:
        """
        Bring the measurements of adapters in `model-index` up to date.

        Args:
            adapters (`Collection[str]`): whose measurements are replaced, as `args.adapter` of a metric names them.
            new (`Sequence[dict]`): results as the Hub has them: `task`, `dataset`, `metrics`.
            name (`str`): the model's, where there is no `model-index` yet.
        """
        key = "model-index"
        try:
            index = self.value(key)
        except yaml.YAMLError:  # a tag of some program
            index = "unknown"
        if index is None:
            if new:
                self._remove(key)
                self.add(key, [{"name": name, "results": list(new)}])
            return
        try:
            found = [
                [[_adapter(metric) in adapters for metric in result["metrics"]] for result in model["results"]]
                for model in index
            ]
            ours = [
                {**result, "metrics": [metric for metric in result["metrics"] if _adapter(metric) in adapters]}
                for model in index
                for result in model["results"]
            ]
        except (KeyError, TypeError, AttributeError):
            if new:
                raise _refused(
                    "has a `model-index` that is no list of models with results; mend or remove it"
                ) from None
            return
        if [result for result in ours if result["metrics"]] == list(new):
            return
        models = self._node(key)
        # what is left empty goes with its model
        drop_models = {i for i, results in enumerate(found) if results and all(r and all(r) for r in results)}
        if new:
            drop_models -= {0}
        if not found or drop_models == set(range(len(found))):
            self._remove(key)
            if new:
                self.add(key, [{"name": name, "results": list(new)}])
            return
        self._change(key, models, drop_models, [])
        for i, results in enumerate(found):
            if i in drop_models:
                continue
            node = _child(models.value[i], "results")
            self._change(key, node, {j for j, r in enumerate(results) if r and all(r)}, new if i == 0 else [])
            for j, mine in enumerate(results):
                if any(mine) and not all(mine):
                    self._change(key, _child(node.value[j], "metrics"), {k for k, own in enumerate(mine) if own}, [])

    def merge_pictures(self, ours: tuple[str, ...], pictures: Sequence[dict[str, str]]) -> None:
        """
        Bring the pictures of the Hub's `widget` up to date; those of people stay.

        Args:
            ours (`tuple[str, ...]`): what the paths of our pictures begin with.
            pictures (`Sequence[dict]`): `file` and `prompt` of each.
        """
        key = "widget"
        new = [{"text": picture["prompt"], "output": {"url": picture["file"]}} for picture in pictures]
        try:
            found = self.value(key)
        except yaml.YAMLError:  # a tag of some program
            found = "unknown"
        if found is None:
            if new:
                self._remove(key)
                self.add(key, new)
            return
        items = found if isinstance(found, list) else []
        mine = {i for i, item in enumerate(items) if str(_url(item)).startswith(ours)}
        if [items[i] for i in sorted(mine)] != new:
            self._change(key, self._node(key), mine, new)

    def render(self) -> str:
        """
        The YAML with what was changed.

        Raises:
            `ValueError`: when the change cannot be made without changing what others wrote.
        """
        text, place = "", 0
        for start, end, words in sorted(self._edits):
            if start < place:
                raise _refused("cannot be brought up to date where it is written; write its lists one item a line")
            text, place = text + self.text[place:start] + words, end
        text += self.text[place:] + self._added
        try:
            found = FrontMatter(text)
        except ValueError:
            found = FrontMatter()
        for key in self._entries.keys() - self._changed:
            if key not in found._entries or found._raw(key) != self._raw(key):
                raise _refused(
                    f"cannot be brought up to date without a change of its `{key}`; write it one key a line"
                )
        if text.strip() and not found.is_mapping and (self._edits or self._added):
            raise _refused("cannot be brought up to date as it is written; write it one key a line")
        return text

    def _node(self, key: str) -> yaml.Node:
        return self._entries[key][1]

    def _raw(self, key: str) -> str:
        name, value = self._entries[key]
        return self.text[name.start_mark.index : max(name.end_mark.index, _end(value))]

    def _remove(self, key: str) -> None:
        if key in self._entries:
            name, value = self._entries[key]
            self._edit(key, *self._lines(name.start_mark.index, max(name.end_mark.index, _end(value))), "")

    def _lines(self, start: int, end: int) -> tuple[int, int]:
        """The whole lines from one place to another, with the end of the last."""
        first = max(self.text.rfind("\n", 0, start), self.text.rfind("\r", 0, start)) + 1
        last = _LINE.match(self.text, end).end()
        return first, last + (2 if self.text.startswith("\r\n", last) else 1)

    def _scalar(self, key: str) -> tuple[int, int]:
        """From behind the colon to the end of a value on the same line."""
        name, value = self._entries[key]
        start = self.text.index(":", name.end_mark.index) + 1
        end = max(start, value.end_mark.index)
        if not isinstance(value, yaml.ScalarNode) or re.search(r"[\r\n]", self.text[start:end]):
            raise _refused(f"has a `{key}` of several lines; write it on one, or as a list")
        return start, end

    def _change(self, key: str, node: yaml.Node, drop: Collection[int], new: Sequence[Any]) -> None:
        """Take items off a list and put others in their place, or behind the last."""
        if not drop and not new:
            return
        if not isinstance(node, yaml.SequenceNode):
            raise _refused(f"has something else than a list in `{key}`; mend it")
        if not new and len(drop) == len(node.value):
            self._remove(key)
        elif node.flow_style:
            self._change_flow(key, node, drop, new)
        else:
            places = []
            for item in node.value:
                first, last = self._lines(item.start_mark.index, max(item.start_mark.index, _end(item)))
                dash = _DASH.fullmatch(self.text[first : item.start_mark.index])
                if dash is None:
                    raise _refused(f"has a `{key}` that cannot be brought up to date; write its list one item a line")
                places.append((first, last))
            lines = [dash["indent"] + line for item in new for line in _dumped([item]).splitlines()]
            text = "".join(line + self.newline for line in lines)
            at = places[min(drop)][0] if drop else places[-1][1]
            self._edit(key, at, at, text)
            for i in drop:
                self._edit(key, *places[i], "")

    def _change_flow(self, key: str, node: yaml.SequenceNode, drop: Collection[int], new: Sequence[Any]) -> None:
        start, end = node.start_mark.index, node.end_mark.index
        written = [_dumped([item], default_flow_style=True).strip()[1:-1] for item in new]
        if "#" in self.text[start:end]:
            raise _refused(f"has comments inside the brackets of `{key}`; write it one item a line")
        if drop:
            kept = [item for i, item in enumerate(node.value) if i not in drop]
            written = [self.text[item.start_mark.index : item.end_mark.index] for item in kept] + written
            self._edit(key, start, end, f"[{', '.join(written)}]")
            return
        inside = self.text[start + 1 : end - 1].rstrip()
        comma = "" if not inside.strip() else " " if inside.endswith(",") else ", "
        at = start + 1 + len(inside)
        self._edit(key, at, at, comma + ", ".join(written))

    def _edit(self, key: str, start: int, end: int, words: str) -> None:
        first = self._entries[key][0].start_mark.index
        keys = sorted(name.start_mark.index for name, _ in self._entries.values())
        beyond = next((other for other in keys if other > first), len(self.text))
        if any(first <= anchor < beyond for anchor in self._anchors):
            raise _refused(f"has an anchor or alias in `{key}`; write out what it stands for")
        self._changed.add(key)
        self._edits.append((start, end, words))


def split(readme: str) -> tuple[str, FrontMatter, str, str]:
    """
    A README as what opens its front matter, that, what closes it, and the text. Text between two rules is text.

    Raises:
        `ValueError`: as [`FrontMatter`], and when keys stand below a first line that does not begin a block, or in a block that
            is not closed.
    """
    found = _BLOCK.match(readme)
    if found:
        matter = FrontMatter(found["yaml"] + found["newline"] if found["yaml"] else "")
        matter.newline = "\r\n" if "\r\n" in found[0] else found["newline"]
        if matter.is_mapping or not found["yaml"].strip():
            opening = found["opening"] if found["yaml"] else found["opening"] + found["newline"]
            return opening, matter, found["closing"], readme[found.end() :]
    if _ALMOST.match(readme):
        raise _refused(
            "is not read as such: it begins and ends with a line of `---` and nothing else. Mend these lines, or put an empty "
            "line below the first if it is text"
        )
    matter = FrontMatter()
    matter.newline = "\r\n" if "\r\n" in readme else "\n"
    return f"---{matter.newline}", matter, f"---{matter.newline * 2}", readme


def _refused(what: str) -> ValueError:
    return ValueError(f"The front matter of README.md {what}. Nothing was changed.")


def _is_word(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.tag.endswith(":null")


def _adapter(metric: dict[str, Any]) -> Any:
    args = metric.get("args")
    return args.get("adapter") if isinstance(args, dict) else None


def _url(item: Any) -> Any:
    output = item.get("output") if isinstance(item, dict) else None
    return output.get("url") if isinstance(output, dict) else None


def _child(node: yaml.MappingNode, key: str) -> yaml.Node:
    return next(value for name, value in node.value if name.value == key)


def _end(node: yaml.Node) -> int:
    """Where a value ends: the mark of a block is behind the comments and empty lines that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return max(map(_end, last)) if isinstance(last, tuple) else _end(last)
    return node.end_mark.index


def _written(word: str) -> str:
    return _dumped({"": word}).split(":", 1)[1].strip()


def _dumped(value: Any, default_flow_style: bool = False) -> str:
    return yaml.safe_dump(
        value, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=default_flow_style
    )
