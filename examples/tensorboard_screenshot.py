"""Takes a picture of a TensorBoard page with headless Chromium.

    python examples/tensorboard_screenshot.py logs/movies sizes.png
    python examples/tensorboard_screenshot.py logs/movies rows.png --page hparams

Needs Chromium or Chrome; name it with --browser if it is not found.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

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
    "--remote-debugging-pipe",
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
    parser.add_argument("--wait", type=float, default=10, help="seconds to draw")
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
    size = {"width": args.width, "height": args.height}
    metrics = {**size, "deviceScaleFactor": args.scale, "mobile": False}
    with tempfile.TemporaryDirectory() as profile:
        with Browser(args.browser, profile, args.timeout) as browser:
            target = browser.call("Target.createTarget", url="about:blank")
            session = browser.call("Target.attachToTarget", **target, flatten=True)
            browser.session = session["sessionId"]
            browser.call("Emulation.setDeviceMetricsOverride", **metrics)
            browser.call("Page.navigate", url=page)
            # Cards are drawn one by one, and nothing tells when they are done.
            time.sleep(args.wait)
            picture = browser.call("Page.captureScreenshot", format="png")
    args.output.write_bytes(base64.b64decode(picture["data"]))


class Browser:
    """A headless Chromium, spoken to over DevTools' pipe (JSON and a zero byte)."""

    def __init__(self, name: str, profile: str, timeout: float) -> None:
        self.command = [name, *FLAGS, f"--user-data-dir={profile}"]
        self.timeout = timeout
        self.session: str | None = None
        self.count = 0
        self.buffer = b""

    def __enter__(self) -> Browser:
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        redirect = f'exec "$@" 3<&{commands} 4>&{answers}'
        self.process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", *self.command],
            pass_fds=(commands, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.session = None
            self.call("Browser.close")
            self.process.wait(self.timeout)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.commands)
        os.close(self.answers)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.count:
                break
        if "error" in answer:
            raise OSError(f"{method} failed: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], self.timeout)
            chunk = os.read(self.answers, 1 << 20) if ready else b""
            if not chunk:
                raise OSError(f"{self.command[0]} did not answer.")
            self.buffer += chunk
        text, self.buffer = self.buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        return message


if __name__ == "__main__":
    main()
