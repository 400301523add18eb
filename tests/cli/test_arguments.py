"""How a command reads what people write: the home folder, keys that come twice, encodings."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from trl import TrlParser

from arr_trl.cli.arguments import parse


@dataclass
class Arguments:
    output_dir: str | None = None
    store: str | None = None
    files: list[str] | None = None
    options: dict | str | None = None
    count: int = field(default=1, metadata={"help": "a number"})


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir(tmp_path)

    def read(text, *argv):
        content = text if isinstance(text, bytes) else text.encode()
        Path("config.yaml").write_bytes(content)
        (arguments,) = parse(TrlParser((Arguments,)), ["--config", "config.yaml", *argv])
        return arguments

    return read


def test_the_home_folder_is_meant_where_no_shell_has_put_it(read):
    found = read('output_dir: ~/runs/a\nfiles: [~/b, "c~/d", ~x]\n', "--store=~/judge.sqlite")
    assert found.output_dir == "/home/somebody/runs/a"
    assert found.store == "/home/somebody/judge.sqlite"
    assert found.files == ["/home/somebody/b", "c~/d", "~x"]
    assert read('store: "~"\n').store == "/home/somebody"


def test_a_setting_that_comes_twice_is_refused(read):
    with pytest.raises(ValueError, match=r"config\.yaml: count comes twice; keep the one that is meant"):
        read("count: 1\nstore: a\ncount: 2\n")


def test_a_mark_is_passed_over_and_another_encoding_is_refused_by_the_name_of_its_file(read):
    assert read("\ufeffcount: 2\n").count == 2
    for content in ("store: caf\u00e9\n".encode("latin-1"), "count: 2\n".encode("utf-16")):
        with pytest.raises(ValueError, match=r"config\.yaml"):
            read(content)
