"""A judge's words with the names of what it was shown in place of their numbers."""

import re


# BASE in capitals is what questions call the picture that was edited; a model is called base too.
_NUMBERED = re.compile(
    r"""(?P<both>\bimages\s+(?:1\s+and\s+2|2\s+and\s+1)\b)
    | (?P<source>\b(?:the\s+)?(?-i:BASE)\s+image\b)
    | (?:\b(?:edited\s+)?(?:image|picture|candidate)\s*\#?|图像\s*|图片\s*)(?P<number>[12])(?!\w)
    | \bthe\s+(?P<word>first|second)\s+(?:image|picture|candidate)\b
    | 第(?P<chinese>[一二])[张幅](?:图像|图片|图)""",
    re.VERBOSE | re.IGNORECASE,
)
_PLACES = {"1": 0, "2": 1, "first": 0, "second": 1, "一": 0, "二": 1}


def with_names(reason: str, names: tuple[str, str]) -> str:
    """
    `"Image 1 has a dog"` as `"base has a dog"`.

    Args:
        reason (`str`): what a judge said of two pictures, which it knows by their numbers.
        names (`tuple[str, str]`): of the picture that was shown first, and of the second.
    """

    def named(found: re.Match) -> str:
        if found["both"]:
            return f"{names[0]} and {names[1]}" if found["both"].endswith("2") else f"{names[1]} and {names[0]}"
        if found["source"]:
            return "the source"
        return names[_PLACES[(found["number"] or found["word"] or found["chinese"]).lower()]]

    return _NUMBERED.sub(named, reason)
