"""One process that fails ends the run on all of them, with what was trained."""

from forked_run import ForkedRun, build, write_prompts


def train(folder):
    trainer = build(folder / "out", write_prompts(folder), max_steps=6, save_steps=100)
    encode = trainer.policy.encode_ahead

    def fails_later(rows, sizes):
        if trainer.args.process_index == 1 and trainer.state.global_step == 2:
            raise RuntimeError("out of memory")
        return encode(rows, sizes)

    trainer.policy.encode_ahead = fails_later
    trainer.train()


def test_encoder_that_fails_on_one_process_ends_the_run_on_all_with_a_checkpoint(tmp_path):
    run = ForkedRun(train, tmp_path, ranks=2, log=tmp_path / "log")
    assert run.wait(300) == [1, 1]
    log = (tmp_path / "log").read_text()
    assert "RuntimeError: out of memory" in log
    assert "RuntimeError: A row of another process cannot be used." in log
    assert (tmp_path / "out" / "checkpoint-2" / "checkpoint.json").is_file()
