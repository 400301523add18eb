"""
Whether the report of a large evaluation stays usable: how large the file is, how long headless Chromium takes to open it,
and how much its memory grows while every page of the gallery is turned. Needs chromium, chromedriver and selenium.

python benchmarks/report_size.py --pairs 10000 --output outputs/report
"""

import argparse
import json
import sys
import time
from pathlib import Path

import psutil

from arr_trl.evaluation import write_report


sys.path.append(str(Path(__file__).parents[1] / "tests"))
from browser import address, chromium, complaints
from made_up_evaluation import made_up


def memory_mb(page) -> dict[str, float]:
    """Of the page's JavaScript, and of the whole process that draws it."""
    page.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    heap = page.execute_script("return performance.memory.usedJSHeapSize")
    browser = psutil.Process(page.service.process.pid)
    renderers = [p for p in browser.children(recursive=True) if "--type=renderer" in p.cmdline()]
    return {"heap": heap / 1e6, "renderer": max(p.memory_info().rss for p in renderers) / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--output", type=Path, default=Path("outputs/report"))
    args = parser.parse_args()

    report = args.output / "report.html"
    if not report.is_file():
        write_report(args.output, *made_up(args.output, args.pairs, args.size, plain=False))
    found = {"pairs": args.pairs, "file_mb": report.stat().st_size / 1e6}
    with chromium() as page:
        page.get("about:blank")
        opened = []
        for _ in range(3):
            started = time.perf_counter()
            page.get(address(report))
            page.execute_script("return document.querySelectorAll('.card').length")
            opened.append(time.perf_counter() - started)
        found["open_s"] = opened
        before = memory_mb(page)
        pages = int(page.find_element("id", "page").get_attribute("max"))
        page.execute_script("document.getElementById('gallery').scrollIntoView()")
        highest = dict(before)
        for number in range(pages):
            page.execute_script("turn(arguments[0])", number)
            page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
            if number % 40 == 0 or number == pages - 1:
                highest = {name: max(value, highest[name]) for name, value in memory_mb(page).items()}
        found |= {
            "memory_before_mb": before,
            "memory_highest_mb": highest,
            "pages": pages,
            "complaints": complaints(page),
        }
        found["growth_mb"] = {name: highest[name] - before[name] for name in before}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
