"""Mistakes in what a run publishes."""

# fmt: off
MUTATIONS = [
    # release
    ("alpha of the release is its rank", "release/adapter.py", '"lora_alpha": config.lora_alpha',
     '"lora_alpha": config.r', "release/test_adapter.py"),
    ("scale of rsLoRA lost in the release", "release/adapter.py", '"alpha_pattern", "use_rslora",', '"alpha_pattern",',
     "release/test_adapter.py"),
    ("a push imports torch", "release/push.py", "from ..hub_errors import asked_to_wait",
     "from ..policies.adapter_files import read_adapter as _  # noqa: F401\nfrom ..hub_errors import asked_to_wait",
     "test_package.py::test_a_push_needs_neither_torch_nor_the_libraries_of_models"),
    ("a license that people set is replaced", "release/card_sections.py",
     "if \"license\" not in theirs and (new", "if (new", "release/test_edited_cards.py"),
    ("front matter is found between two rules of text", "release/front_matter.py", "if matter.is_mapping or not found",
     "if True or not found", "release/test_edited_cards.py"),
    ("comments behind a list are taken for its items", "release/front_matter.py",
     "        return max(map(_end, last)) if isinstance(last, tuple) else _end(last)",
     "        return node.end_mark.index", "release/test_edited_cards.py"),
    ("measurements of others go", "release/front_matter.py", "{j for j, r in enumerate(results) if r and all(r)}",
     "set(range(len(results)))", "release/test_edited_cards.py"),
    ("a section without an end takes the next", "release/card_sections.py",
     'if not marker["end"] or marker["table"] != open_marker["table"]:',
     'if not marker["end"]:\n            continue\n        if marker["table"] != open_marker["table"]:',
     "release/test_edited_cards.py"),
    ("facts of a section are not looked at", "release/card_sections.py", "        _Facts.model_validate(facts)\n", "",
     "release/test_edited_cards.py"),
    ("line ends of a README become those of Unix", "release/card_sections.py", 'newline = "\\r\\n" if readme and',
     'newline = "\\n" if readme and', "release/test_edited_cards.py"),
    ("the end of a README is trimmed", "release/card_sections.py",
     '    return f"{opening}{matter.render()}{closing}{body}"',
     '    return f"{opening}{matter.render()}{closing}{body.strip()}\\n"', "release/test_edited_cards.py"),
    ("a damaged card on the Hub is no connection", "release/card_sections.py",
     "    except ValueError as error:\n        problem",
     "    except RecursionError as error:\n        problem",
     "release/test_push.py::test_a_damaged_card_on_the_hub_is_told_as_what_it_is_and_stays"),
    # folders.py
    ("base in the Hub's cache called by its hash", "folders.py", 'if snapshots.name == "snapshots" and',
     'if snapshots.name == "" and', "policies/test_loading.py::test_snapshot_of_a_distilled_model_is_known_as_one"),
]
# fmt: on
