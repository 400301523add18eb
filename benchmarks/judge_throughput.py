"""
How fast pairs are judged by a server, and how fast the store answers them again.

A server on loopback, in a process of its own, takes `--latency_s` for every answer. `--pairs` pairs in both orders at
`--concurrency` cannot take less than `2 * pairs * latency_s / concurrency` seconds; what is above is our overhead.

```
python benchmarks/judge_throughput.py --pairs 1000 --latency_s 0.2 --concurrency 32
python benchmarks/judge_throughput.py --pairs 10000 --preset unifiedreward-think   # a published judge in place of a rubric
```
"""

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from arr_trl.chat import HTTPChatModel
from arr_trl.judges import JudgeReward, JudgeRow, PresetJudge, RubricJudge
from arr_trl.rubrics import Criterion, Rubric


RUBRIC = Rubric(name="speed", criteria=[Criterion(text="The picture shows what is asked for.")])
ANSWER = {"criteria": [{"criterion": 1, "ranks": [1, 2]}], "reason": "because", "ranks": [1, 2]}
# what a published judge says, in the forms of several, with log-probabilities of labels
PUBLISHED = """Alignment Score (1-5): 4
Coherence Score (1-5): 3
Style Score (1-5): 4
{"score": [8, 6]}
<answer>Image 1 is better</answer>"""
LABELS = [{"token": label, "logprob": -2.0} for label in ("Yes", "No", "0", "1", "2", "3", "4", "5")]


def serve(
    latency_s: float, published: bool, ports: "multiprocessing.Queue[int]", served: "multiprocessing.Value"
) -> None:
    """Answer every request with the same verdict, `latency_s` after it has arrived."""
    content = PUBLISHED if published else json.dumps(ANSWER)
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    if published:
        choice["logprobs"] = {"content": [{**LABELS[0], "top_logprobs": LABELS}]}
    body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readline():
            assert request.startswith(b"POST")
            length = 0
            while (line := await reader.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            await reader.readexactly(length)
            served.value += 1
            await asyncio.sleep(latency_s)
            writer.write(head + body)
            await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**24)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--latency_s", type=float, default=0.2, help="Seconds that the server takes for an answer.")
    parser.add_argument("--concurrency", type=int, default=32, help="Requests in flight.")
    parser.add_argument(
        "--preset", help="A published judge in place of a rubric: one of labels, lines, numbers or a winner."
    )
    parser.add_argument("--size", type=int, default=32, help="Side of the pictures, in pixels.")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (args.pairs, 2, args.size, args.size, 3), dtype=np.uint8)
    rows = [JudgeRow(f"prompt {i}", tuple(map(Image.fromarray, pair))) for i, pair in enumerate(pixels)]
    context = multiprocessing.get_context("spawn")
    ports, served = context.Queue(), context.Value("i", 0)
    server = context.Process(target=serve, args=(args.latency_s, args.preset is not None, ports, served), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ports.get()}/v1"
    with tempfile.TemporaryDirectory() as folder:
        for run in ("first run", "second run"):
            model = HTTPChatModel("judge", url, max_concurrency=args.concurrency)
            store = Path(folder) / "judge.sqlite"
            judge: JudgeReward = RubricJudge(rubric=RUBRIC, model=model, store=store)
            if args.preset is not None:
                judge = PresetJudge(args.preset, model, store=store)
            questions = args.pairs * judge.questions_per_row(2)
            least = questions * args.latency_s / args.concurrency
            before, start, cpu = served.value, time.perf_counter(), time.process_time()
            verdicts = judge.compare(rows)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            assert all(verdict.failure is None for verdict in verdicts), verdicts[0].failure
            # on a busy machine the time that it computes says more than the time that it takes
            each = f"{1000 * seconds / questions:.2f} ms a question, {1000 * cpu / questions:.2f} ms of them computing"
            print(f"{run}: {seconds:.2f} s, {served.value - before} requests (least possible {least:.2f} s), {each}")
            judge.store.close()
            model.close()
    server.terminate()


if __name__ == "__main__":
    main()
