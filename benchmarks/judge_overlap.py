"""
How long training waits for a judge that takes a second for every answer.

The quickstart's configuration for a few steps, with a judge that takes `--latency_s`: once embedded, where one call
answers all that it is given, and once behind a server on loopback that answers `--concurrency` questions at a time. Of
each, the wait per rollout is reported when the trainer

- hands every chunk of the rollout to the judge as soon as it is decoded and goes on sampling (`overlapped`),
- samples the whole rollout, and then calls the judge (`after sampling`),

beside the time of one blocking call after another (`one by one`), which is questions × latency.

```
python benchmarks/judge_overlap.py --output outputs/overlap
```
"""

import argparse
import base64
import io
import json
import multiprocessing
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import mean

from peft import LoraConfig
from PIL import Image
from transformers import PrinterCallback
from trl import TrlParser

from arr_trl import RPOConfig, RPOTrainer, RubricJudge
from arr_trl.chat import ChatModel, ChatRequest, HTTPChatModel
from arr_trl.cli.rpo import RPOScriptArguments
from arr_trl.tiny_scenes import BASE_MODEL, TinyScenesJudge, prompts


ROOT = Path(__file__).parents[1]


def serve(latency_s: float, ports: "multiprocessing.Queue[int]") -> None:
    """Answer every request as the embedded judge would, `latency_s` after it has arrived."""
    judge = TinyScenesJudge()

    def decoded(part: dict) -> dict:
        if part["type"] == "text":
            return part
        data = base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
        return {"type": "image", "image": Image.open(io.BytesIO(data)).convert("RGB")}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args) -> None:
            pass

        def do_POST(self) -> None:
            due = time.monotonic() + latency_s
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = "OK"  # to the check
            if "response_format" in body:
                schema = body["response_format"]["json_schema"]["schema"]
                messages = [{**m, "content": [decoded(part) for part in m["content"]]} for m in body["messages"]]
                text = judge.complete([ChatRequest(messages, json_schema=schema)])[0].text
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            payload = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
            time.sleep(max(0.0, due - time.monotonic()))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    ports.put(server.server_port)
    server.serve_forever()


def train(model: ChatModel, overlapped: bool, prompts_per_chunk: int, steps: int, folder: Path) -> dict[str, float]:
    """What a rollout took on average; the first one, which loads and compiles, is left out."""
    script_args, args = TrlParser((RPOScriptArguments, RPOConfig)).parse_args_and_config(
        [
            "--config", str(ROOT / "examples/configs/tiny_scenes_rpo.yaml"), "--output_dir", str(folder),
            "--rollout_batch_size", str(prompts_per_chunk), "--max_steps", str(steps + 1), "--logging_steps", "1",
            "--save_strategy", "no", "--disable_tqdm", "true",
        ]
    )  # fmt: skip
    judge = RubricJudge(rubric=ROOT / script_args.rubric[0], model=model)

    def after_sampling(**columns):
        return judge(**columns)

    trainer = RPOTrainer(
        model=str(BASE_MODEL),
        reward_funcs=judge if overlapped else after_sampling,
        args=args,
        train_dataset=prompts("train"),
        peft_config=LoraConfig(r=script_args.lora_r, lora_alpha=script_args.lora_alpha),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    rollouts = [entry for entry in trainer.state.log_history if "judge/wait_s" in entry][1:]
    names = ("judge/wait_s", "judge/calls", "judge/latency_s", "rollout/sample_s")
    return {name.partition("/")[2]: mean(entry[name] for entry in rollouts) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--latency_s", type=float, default=1.0, help="Seconds that the judge takes.")
    parser.add_argument("--concurrency", type=int, default=32, help="Requests in flight at the server.")
    parser.add_argument("--prompts_per_chunk", type=int, nargs="+", default=[64, 8])
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    server = context.Process(target=serve, args=(args.latency_s, ports), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ports.get()}/v1"
    judges = {
        "embedded": lambda: TinyScenesJudge(latency_s=args.latency_s),
        "server": lambda: HTTPChatModel("judge", url, max_concurrency=args.concurrency),
    }
    results = []
    print("| judge | prompts a chunk | trainer | sampling s | waits s | one by one s | share of one by one |")
    print("|---|---|---|---|---|---|---|")
    for name, new_judge in judges.items():
        for chunk in args.prompts_per_chunk:
            for overlapped in (True, False):
                found = train(new_judge(), overlapped, chunk, args.steps, args.output)
                serial = found["calls"] * args.latency_s
                way = "overlapped" if overlapped else "after sampling"
                results.append(
                    {"judge": name, "prompts_per_chunk": chunk, "way": way, "one_by_one_s": serial, **found}
                )
                print(
                    f"| {name} | {chunk} | {way} | {found['sample_s']:.2f} | {found['wait_s']:.2f} | {serial:.0f} "
                    f"| {found['wait_s'] / serial:.1%} |",
                    flush=True,
                )
    server.terminate()
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "judge_overlap.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
