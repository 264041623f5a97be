"""`make bench NAME=compress ARGS="--model DIR"`: what each way to make a model smaller costs, on SST-2.

Any folder that `tundish finetune` left for SST-2 (classes 0 and 1), the film reviews of `shared/data`: at most --most
sentences for the recoveries, the development set for the scores. Every step is sealed as it ends, so it may be stopped,
and goes on where it was.

    python benchmarks/compress.py --model DIR [--out DIR] [--steps heads,layers+int8] [--most 4000] [--seeds 3]

Prints the table, and last one line of JSON: of each step bytes, milliseconds, texts a second, accuracy.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import zstandard

from tundish.pipeline.cli_compress import OUT, shown
from tundish.stages.compress_run import run

HERE = Path(__file__).resolve().parents[1]
DATA = next((p for p in (HERE / "shared/data", HERE.parent / "shared/data") if p.exists()), HERE / "shared/data")
STEPS = "distil,heads,layers,magnitude,int8,onnx,onnx+int8,layers+int8"


def main() -> None:
    asked = arguments()
    out = Path(asked.out)
    out.mkdir(parents=True, exist_ok=True)
    files = {"train": str(laid("train", out, asked.most)), "test": str(laid("dev", out, asked.tests))}
    result = run(
        asked.model, files, str(out / "small"), asked.steps.split(","), {}, tell=print, columns={"text": "sentence"},
        seeds=tuple(range(1, asked.seeds + 1)), epochs=asked.epochs, threads=asked.threads, length=asked.length,
    )  # fmt: skip
    shown(result, OUT)
    print(json.dumps({path: told_of(one) for path, one in result["steps"].items()}))


def laid(part: str, out: Path, most: int) -> Path:
    """The first so many rows of a part, as a file. Rows end at line feeds alone."""
    body = zstandard.ZstdDecompressor().stream_reader((DATA / "sent-sst2" / f"{part}.tsv.zst").open("rb")).read()
    path = out / f"{part}.tsv"
    path.write_bytes(b"\n".join(body.split(b"\n")[: most + 1]) + b"\n")
    return path


def told_of(one: dict[str, Any]) -> dict[str, Any]:
    speed, score = one["speed"], one["parts"]["test"]["mean"]
    return {
        "bytes": one["bytes"],
        "ms": round(speed["latency"], 3),
        "texts_per_second": round(speed["throughput"], 1),
        "accuracy": round(score, 4),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder that was tuned on SST-2")
    parser.add_argument("--out", default=str(HERE / ".bench-compress"))
    parser.add_argument("--steps", default=STEPS)
    parser.add_argument("--most", type=int, default=4000, help="sentences to learn from")
    parser.add_argument("--tests", type=int, default=2000, help="sentences to score on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--length", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
