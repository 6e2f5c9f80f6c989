"""Takes a picture of a TensorBoard page with headless Chromium.

    python examples/tensorboard_screenshot.py logs/movies sizes.png
    python examples/tensorboard_screenshot.py logs/movies rows.png --page hparams

Needs Chromium or Chrome; name it with --browser if it is not found.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from tensorboard import program

PAGES = ("timeseries", "images", "scalars", "text", "hparams")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def main() -> None:
    args = parse_arguments()
    # Port 0: any free one. The server's thread ends with this script.
    server = program.TensorBoard()
    server.configure(logdir=args.log_dir, host="127.0.0.1", port=0, load_fast="false")
    url = server.launch()
    runs = wait_for_runs(url, args.timeout)
    query = urllib.parse.urlencode({"tagFilter": args.tags}) if args.tags else ""
    page = f"{url}?{query}#{args.page}"
    print(f"{page} shows {len(runs)} runs: {', '.join(runs)}")
    screenshot(page, args)
    print(f"Wrote {args.output}.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log_dir", help="directory that a search wrote to")
    parser.add_argument("output", type=Path, help="PNG to write")
    parser.add_argument("--page", default="images", choices=PAGES)
    parser.add_argument("--tags", help="regular expression, on the timeseries page")
    parser.add_argument("--width", type=int, default=1500)
    parser.add_argument("--height", type=int, default=1100)
    parser.add_argument("--scale", type=float, default=2, help="pixels per point")
    parser.add_argument("--browser", default=next(filter(shutil.which, BROWSERS), None))
    parser.add_argument("--timeout", type=float, default=60, help="seconds")
    args = parser.parse_args()
    if args.browser is None:
        parser.error(f"--browser is needed: none of {', '.join(BROWSERS)} was found.")
    if not Path(args.log_dir).is_dir():
        parser.error(f"log_dir must be a directory. Received: {args.log_dir}.")
    return args


def wait_for_runs(url: str, timeout: float) -> list[str]:
    """Waits until TensorBoard has read the log directory."""
    end = time.monotonic() + timeout
    runs: list[str] = []
    while time.monotonic() < end:
        with urllib.request.urlopen(f"{url}data/runs", timeout=timeout) as answer:
            found = json.load(answer)
        if found and found == runs:
            return runs
        runs = found
        time.sleep(1)
    sys.exit(f"TensorBoard found no runs within {timeout:g} seconds.")


def screenshot(page: str, args: argparse.Namespace) -> None:
    args.output.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [
            args.browser,
            *FLAGS,
            f"--user-data-dir={profile}",
            f"--window-size={args.width},{args.height}",
            f"--force-device-scale-factor={args.scale}",
            "--virtual-time-budget=20000",
            f"--screenshot={args.output.resolve()}",
            page,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=args.timeout)
    if not args.output.exists():
        sys.exit(f"{args.browser} wrote no picture of {page}.")


if __name__ == "__main__":
    main()
