"""Look at a report in a real browser, without a screen: on a phone and on a desk.

    python -m benchmarks.report_in_browser report.html [--browser chromium] [--out DIR]

Opens the page at both widths with the network cut off, and exits with 1 if anything is wider than
the screen, a picture is not shown, or something was asked for from elsewhere. Leaves screenshots,
and prints what it found. Needs Chromium or Chrome; no test does.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

from PIL import Image

from utils.errors import UserError, run_script

WIDTHS = {"phone": 390, "desktop": 1280}
HEIGHT, LONGEST = 900, 16000  # pixels of a window, and at most of a screenshot
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# A frame of the width asked for: windows have a smallest one, which is wider than a phone.
FRAME = """<!doctype html><body style="margin:0">
<iframe id="frame" src="{page}" style="border:0;width:{width}px;height:{height}px"></iframe>
<pre id="found"></pre>
<script>
const frame = document.getElementById('frame'), report = document.getElementById('found');
let height = 0;
function look(tries) {{
  const view = frame.contentWindow, page = view.document;
  if (tries === 0) {{
    height = page.documentElement.scrollHeight;
    page.querySelectorAll('details').forEach(part => part.open = true);
    page.querySelectorAll('img').forEach(image => image.loading = 'eager');
  }}
  const shown = [...page.querySelectorAll('img[src]')];
  if (tries < 100 && (page.readyState !== 'complete' || !shown.every(image => image.complete)))
    return setTimeout(look, 100, tries + 1);
  page.querySelector('.scene img')?.click();
  const box = page.querySelector('dialog'), enlarged = box?.open ?? false;
  box?.close();
  report.textContent = JSON.stringify({{
    width: page.documentElement.scrollWidth, screen: view.innerWidth,
    height, pictures: shown.length,
    broken: shown.filter(image => !image.naturalWidth).map(image => image.alt),
    sections: [...page.querySelectorAll('section')].map(part => part.id),
    outside: view.performance.getEntriesByType('resource').map(entry => entry.name)
      .filter(name => !name.startsWith('data:')),
    smallest: Math.min(...[...page.querySelectorAll('p, td, figcaption')].map(
      part => parseFloat(view.getComputedStyle(part).fontSize))),
    enlarged,
  }});
}}
frame.onload = () => {{
  try {{ look(0); }} catch (error) {{ report.textContent = JSON.stringify(String(error)); }}
}};
</script>"""


def main() -> None:
    """Open the page at each width, print what was found, exit with 1 if it is not sound."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--browser", help=f"default: the first of {', '.join(BROWSERS)}")
    parser.add_argument("--out", type=Path, default=Path("logs/report"), help="for screenshots")
    options = parser.parse_args()
    if not options.page.is_file():
        raise UserError(f"there is no file {options.page}")
    browser = options.browser or next(filter(shutil.which, BROWSERS), "")
    if not shutil.which(browser):
        raise UserError(f"no browser {browser or ' or '.join(BROWSERS)}; name one with --browser")
    options.out.mkdir(parents=True, exist_ok=True)
    faults = []
    for name, width in WIDTHS.items():
        found = look(browser, options.page.resolve(), width, options.out / f"{name}.png")
        print(f"{name}: {json.dumps(found)}")
        faults += [f"{name}: {fault}" for fault in faults_of(found)]
    print("\n".join(faults) or "sound")
    sys.exit(1 if faults else 0)


def look(browser: str, page: Path, width: int, screenshot: Path) -> dict[str, Any]:
    """Open a page in a frame of a width; return what was found, and leave a screenshot."""
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        frame.write_text(FRAME.format(page=page.as_uri(), width=width, height=HEIGHT))
        size = f"--window-size={max(width, 600)},{HEIGHT}"
        text = _run(browser, folder, [size, "--dump-dom", frame.as_uri()])
        start = text.find('<pre id="found">') + len('<pre id="found">')
        content = unescape(text[start : text.find("</pre>", start)])
        if not content:
            raise UserError(f"{browser} did not finish loading {page}")
        found = json.loads(content)
        if isinstance(found, str):
            raise UserError(f"{browser} cannot look at {page}: {found}")
        # As a reader finds it: what opens is closed.
        height = min(found["height"], LONGEST)
        content = FRAME.format(page=page.as_uri(), width=width, height=height)
        frame.write_text(content[: content.index("<script>")])
        size = f"--window-size={max(width, 600)},{height}"
        _run(browser, folder, [size, f"--screenshot={screenshot}", frame.as_uri()])
    with Image.open(screenshot) as picture:
        picture.crop((0, 0, width, height)).save(screenshot)
    return found


def _run(browser: str, folder: str, words: list[str]) -> str:
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--disable-background-networking", f"--user-data-dir={folder}/profile"]
    # Nothing resolves: what the page asks for from elsewhere fails, and is found.
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files"]
    command += ["--virtual-time-budget=60000", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise UserError(f"{browser} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def faults_of(found: dict[str, Any]) -> list[str]:
    """Say what is wrong with what was found."""
    faults = []
    if found["width"] > found["screen"]:
        faults.append(f"the page is {found['width']} wide on a screen of {found['screen']} pixels")
    if found["broken"]:
        faults.append(f"{len(found['broken'])} pictures are not shown ({found['broken'][0]})")
    if found["outside"]:
        faults.append(f"the page asks for {found['outside'][0]}")
    if found["smallest"] < 12:
        faults.append(f"text of {found['smallest']} pixels")
    if "where-they-disagree" in found["sections"] and not found["enlarged"]:
        faults.append("a picture of the gallery cannot be enlarged")
    return faults


if __name__ == "__main__":
    run_script(main)
