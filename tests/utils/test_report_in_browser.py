"""A report in a real browser without a screen, on a phone and on a desk, cut off from the network.

Skipped where there is no Chromium or Chrome.
"""

import json
import shutil
import subprocess
from html import unescape

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(shutil.which, BROWSERS), None)
WIDTHS = {"phone": 390, "desktop": 1280}
HEIGHT = 900  # pixels of a window
# A frame of the width asked for: windows have a smallest one, which is wider than a phone.
FRAME = """<!doctype html><body style="margin:0">
<iframe id="frame" src="{page}" style="border:0;width:{width}px;height:{height}px"></iframe>
<pre id="found"></pre>
<script>
const frame = document.getElementById('frame'), report = document.getElementById('found');
function look(tries) {{
  const view = frame.contentWindow, page = view.document;
  if (tries === 0) {{
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
    width: page.documentElement.scrollWidth, screen: view.innerWidth, pictures: shown.length,
    broken: shown.filter(image => !image.naturalWidth).map(image => image.alt),
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


def look(page, width, folder):
    """What a browser finds in a page in a frame of a width."""
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=page.as_uri(), width=width, height=HEIGHT))
    # Nothing resolves: what the page asks for from elsewhere fails, and is found.
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               "--disable-background-networking", f"--user-data-dir={folder}/profile",
               "--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files",
               "--virtual-time-budget=60000", f"--window-size={max(width, 600)},{HEIGHT}",
               "--dump-dom", frame.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    start = done.stdout.find('<pre id="found">') + len('<pre id="found">')
    return json.loads(unescape(done.stdout[start : done.stdout.find("</pre>", start)]))


@pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)}")
@pytest.mark.parametrize("screen", WIDTHS)
def test_a_report_fits_the_screen_and_asks_for_nothing(trained, write_report, tmp_path, screen):
    write_report(*sorted(path.parent for path in trained.glob("*/results.json")))
    found = look(tmp_path / "out" / "report.html", WIDTHS[screen], tmp_path)
    assert found["width"] <= found["screen"] == WIDTHS[screen]
    assert found["pictures"] > 10 and found["broken"] == [] and found["outside"] == []
    assert found["smallest"] >= 12
    assert found["enlarged"], "a picture of the gallery cannot be enlarged"
