"""Every prompt once an epoch, whoever reads it, and on from where a checkpoint was written."""

import itertools
import json
from collections import Counter
from itertools import islice

import pytest
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from datasets import Dataset, Features, Image, IterableDataset, Value, load_dataset
from PIL import Image as PILImage
from torch.utils.data import DataLoader

from arr_trl.data import RepeatSampler, RepeatStream, StreamError


ROWS = 60


def shards(folder, count, rows=ROWS, streaming=True):
    """A dataset of `count` files."""
    for k in range(count):
        lines = [json.dumps({"prompt": f"prompt {i}", "row": i}) for i in range(rows) if i % count == k]
        (folder / f"{k}.jsonl").write_text("\n".join(lines))
    files = [str(folder / f"{k}.jsonl") for k in range(count)]
    return load_dataset("json", data_files=files, split="train", streaming=streaming)


def stream(rows, chunk_size=6, repeat_count=3, shuffle=True, seed=0, block_size=16):
    return RepeatStream(rows, chunk_size, repeat_count, shuffle, seed, block_size)


def loaders(dataset, sampler, ranks, workers, prompts_per_rank):
    """The dataloader of every rank, as Trainer and accelerate make it."""
    return [
        prepare_data_loader(
            DataLoader(dataset, batch_size=prompts_per_rank, sampler=sampler, collate_fn=list, num_workers=workers),
            num_processes=ranks,
            process_index=rank,
            put_on_device=False,
            dispatch_batches=False,
        )
        for rank in range(ranks)
    ]


def used(loader, repeat_count, rollouts=None):
    """The prompts that a rank trains on: the first batch of each rollout. All batches of a rollout have to be equal."""
    batches = list(islice(iter(loader), None if rollouts is None else rollouts * repeat_count))
    for start in range(0, len(batches), repeat_count):
        repeats = [[row["prompt"] for row in batch] for batch in batches[start : start + repeat_count]]
        assert repeats == [repeats[0]] * repeat_count
    return [row["prompt"] for batch in batches[::repeat_count] for row in batch]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("files", [1, 2, 3, 5])
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_streamed_prompt_is_trained_on_once_an_epoch(tmp_path, ranks, files, workers):
    chunk, epochs = 6, 2
    seen = [
        used(loader, 3, epochs * ROWS // chunk)
        for loader in loaders(stream(shards(tmp_path, files), chunk), None, ranks, workers, chunk // ranks)
    ]
    for epoch in range(epochs):
        part = slice(epoch * ROWS // ranks, (epoch + 1) * ROWS // ranks)
        assert Counter(itertools.chain(*(prompts[part] for prompts in seen))) == {
            f"prompt {i}": 1 for i in range(ROWS)
        }


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("files", [1, 2, 3, 5])
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_prompt_of_a_map_style_dataset_is_trained_on_once_an_epoch(tmp_path, ranks, files, workers):
    dataset = shards(tmp_path, files, streaming=False)
    sampler = RepeatSampler(ROWS, 6, 3, shuffle=True, seed=0)
    orders = []
    for epoch in range(2):
        seen = []
        for loader in loaders(dataset, sampler, ranks, workers, 6 // ranks):
            loader.set_epoch(epoch)
            seen += used(loader, 3)
        assert Counter(seen) == {f"prompt {i}": 1 for i in range(ROWS)}
        orders.append(seen)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_of_a_map_style_dataset_that_fill_no_rollout_are_trained_on_first_in_the_next_epoch(
    ranks, workers, shuffle
):
    dataset = Dataset.from_dict({"prompt": [f"prompt {i}" for i in range(ROWS)]})
    seen = []
    for loader in loaders(dataset, RepeatSampler(ROWS, 8, 3, shuffle, seed=0), ranks, workers, 8 // ranks):
        seen.append([])
        for epoch in range(4):  # of 56 prompts each
            loader.set_epoch(epoch)
            seen[-1] += used(loader, 3)
    rollouts = [
        [prompt for prompts in seen for prompt in prompts[start : start + 8 // ranks]]
        for start in range(0, len(seen[0]), 8 // ranks)
    ]
    prompts = list(itertools.chain(*rollouts))
    assert len(prompts) == 4 * 56
    for number in range(3):
        # where one pass ends and the next begins in the same rollout, the order within it may differ between ranks
        assert max(Counter(prompts[: (number + 1) * ROWS + 8]).values()) <= number + 2
    counts = Counter(prompts)
    assert len(counts) == ROWS
    assert max(counts.values()) - min(counts.values()) <= 1


def test_rows_that_fill_no_rollout_are_joined_by_the_next_epochs(tmp_path):
    prompts = used(loaders(stream(shards(tmp_path, 2), 7), None, 1, 0, 7)[0], 3, 26)  # 182 prompts of 60 an epoch
    for epoch in range(3):
        assert len(set(prompts[epoch * ROWS : (epoch + 1) * ROWS])) == ROWS


def test_order_depends_on_seed_and_epoch_only(tmp_path):
    rows = shards(tmp_path, 3)
    first, same, other = (used(stream_loader, 1, 20) for stream_loader in (
        loaders(stream(rows, repeat_count=1, seed=seed), None, 1, 0, 6)[0] for seed in (1, 1, 2)
    ))  # fmt: skip
    assert first == same != other
    assert first[:ROWS] != first[ROWS:]


def test_rows_of_a_single_file_come_in_another_order_in_every_epoch(tmp_path):
    prompts = used(loaders(stream(shards(tmp_path, 1), repeat_count=1), None, 1, 0, 6)[0], 1, 20)
    assert prompts[:ROWS] != prompts[ROWS:]


def test_unshuffled_stream_keeps_its_order(tmp_path):
    prompts = used(loaders(stream(shards(tmp_path, 1), shuffle=False), None, 1, 0, 6)[0], 3, 20)
    assert prompts == [f"prompt {i}" for i in range(ROWS)] * 2


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, 15, 31])
def test_resumed_stream_goes_on_where_it_was_without_reading_the_beginning_again(tmp_path, chunk, shuffle):
    def build():
        return stream(shards(tmp_path, 3), chunk_size=4, repeat_count=2, shuffle=shuffle)

    whole = build()
    expected = list(islice(loaders(whole, None, 1, 0, 4)[0], 80))
    state = json.loads(json.dumps(whole.state_dict(chunk)))  # plain enough for any file

    resumed = build()
    resumed.load_state_dict(state)
    read = []
    inner = resumed.rows.iter
    resumed.rows.iter = lambda batch_size: (read.append(batch) or batch for batch in inner(batch_size))
    loader = skip_first_batches(loaders(resumed, None, 1, 0, 4)[0], chunk * 2)
    assert list(islice(loader, 80 - 2 * chunk)) == expected[2 * chunk :]
    needed = (40 - chunk) * 4 + 3 * 16  # what is handed out, and blocks that are begun or read ahead
    assert sum(len(batch["prompt"]) for batch in read) <= needed


@pytest.mark.parametrize("workers", [0, 2])
def test_stream_read_by_workers_resumes_by_reading_again(tmp_path, workers):
    expected = list(islice(loaders(stream(shards(tmp_path, 2)), None, 2, 2, 3)[1], 20))
    written = stream(shards(tmp_path, 2))
    list(islice(loaders(written, None, 2, 2, 3)[1], 20))
    assert written.state_dict(2) is None
    again = skip_first_batches(loaders(stream(shards(tmp_path, 2)), None, 2, workers, 3)[1], 7)
    assert list(islice(again, 13)) == expected[7:]


def test_position_written_without_workers_is_good_for_workers(tmp_path):
    whole = stream(shards(tmp_path, 2))
    expected = list(islice(loaders(whole, None, 2, 0, 3)[1], 20))
    resumed = stream(shards(tmp_path, 2))
    resumed.load_state_dict(whole.state_dict(4))
    assert list(islice(skip_first_batches(loaders(resumed, None, 2, 2, 3)[1], 13), 7)) == expected[13:]


def test_stream_shuffled_by_the_user_is_read_again_on_resume(tmp_path, caplog):
    def build():
        return stream(shards(tmp_path, 2).shuffle(seed=3, buffer_size=8), repeat_count=1)

    whole = build()
    expected = list(islice(loaders(whole, None, 1, 0, 6)[0], 12))
    resumed = build()
    resumed.load_state_dict(whole.state_dict(9))
    assert list(islice(skip_first_batches(loaders(resumed, None, 1, 0, 6)[0], 9), 3)) == expected[9:]
    assert "reading it from the beginning" in caplog.text


def test_changed_prompts_are_noticed_on_resume(tmp_path, caplog):
    whole = stream(shards(tmp_path, 1), shuffle=False)
    list(islice(whole, 100))
    resumed = stream(shards(tmp_path, 1, rows=50).map(lambda row: {"prompt": row["prompt"] + "!"}), shuffle=False)
    resumed.load_state_dict(whole.state_dict(3))
    assert next(islice(resumed, 3 * 18, None))["prompt"] == "prompt 18!"
    assert "The prompts have changed" in caplog.text


def test_stream_smaller_than_a_rollout_is_refused(tmp_path):
    with pytest.raises(StreamError, match="holds 4 prompts, and one rollout takes 6"):
        next(iter(stream(shards(tmp_path, 1, rows=4))))


def test_shard_that_cannot_be_read_is_named_with_its_place(tmp_path):
    rows = shards(tmp_path, 3)
    (tmp_path / "1.jsonl").unlink()
    with pytest.raises(StreamError, match=r"block 1 of epoch 0 \(16 rows each\): .*1\.jsonl"):
        list(islice(stream(rows, shuffle=False), 200))


@pytest.mark.parametrize("kind", ["json", "csv", "text", "parquet"])
def test_broken_file_among_those_of_a_stream_is_named(tmp_path, kind):
    good, bad = {
        "json": (b'{"prompt": "a cat"}\n', b'{"prompt": "a d'),
        "csv": (b"prompt\na cat\n", b"prompt\n\xe9\n"),
        "text": (b"a cat\n", b"\xe9\n"),
        "parquet": (None, b"PAR1 no more"),
    }[kind]
    if good is None:
        Dataset.from_dict({"prompt": ["a cat"]}).to_parquet(tmp_path / "a")
    else:
        (tmp_path / "a").write_bytes(good)
    (tmp_path / "b").write_bytes(bad)
    rows = load_dataset(kind, data_files=[str(tmp_path / "a"), str(tmp_path / "b")], split="train", streaming=True)
    stream = RepeatStream(rows, chunk_size=1, repeat_count=1, shuffle=False, seed=0, block_size=1)
    with pytest.raises(StreamError, match=rf"cannot be read further than block .*, in {tmp_path / 'b'}: "):
        list(itertools.islice(stream, 3))


def test_rows_without_text_are_left_out_and_counted(caplog):
    rows = Dataset.from_dict({"prompt": ["a", None, "b", " ", "c", "d"]}).to_iterable_dataset()
    prompts = [row["prompt"] for row in islice(stream(rows, 2, 1, shuffle=False), 8)]
    assert prompts == ["a", "b", "c", "d"] * 2
    assert "2 rows of the stream have no text" in caplog.text


def test_pictures_are_handed_on_as_they_are_stored_and_columns_stay():
    pictures = [PILImage.new("RGB", (4, 4), (i, 0, 0)) for i in range(4)]
    rows = Dataset.from_dict(
        {"prompt": list("abcd"), "source_image": pictures, "style": ["oil"] * 4},
        features=Features({"prompt": Value("string"), "source_image": Image(), "style": Value("string")}),
    ).to_iterable_dataset()
    assert isinstance(rows, IterableDataset)
    first = next(iter(stream(rows, 2, 1, shuffle=False)))
    assert first["source_image"]["bytes"].startswith(b"\x89PNG")
    assert (first["prompt"], first["style"]) == ("a", "oil")


@pytest.mark.parametrize("read_at", [3, 11])
def test_somebody_else_who_reads_the_dataset_does_not_move_the_position(tmp_path, caplog, read_at):
    def build():
        return stream(shards(tmp_path, 3), chunk_size=4, repeat_count=1, block_size=10)

    expected = list(islice(build(), 60))
    rows = shards(tmp_path, 3)
    written = stream(rows, chunk_size=4, repeat_count=1, block_size=10)
    chunks, seen = iter(written), []
    for i in range(48):
        if i == read_at:
            assert next(iter(rows))["prompt"] == "prompt 0"  # as a model card or a callback may do
        seen.append(next(chunks))
    assert seen == expected[:48]
    resumed = build()
    resumed.load_state_dict(written.state_dict(9))
    assert list(islice(resumed, 36, 48)) == expected[36:48]
    assert "cannot go on from its saved position" not in caplog.text
