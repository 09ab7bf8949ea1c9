"""The report of a sweep: one file with everything in it, drawn by a real browser without a complaint."""

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import imagined
import pytest
from matplotlib import image

from acetrain.sweeps.record import Record
from acetrain.sweeps.report import page, tell, write
from acetrain.sweeps.results import collect

AXES = {"adapter.rank": [4, 8, 16], "optimizer": ["adamw", "prodigy"], "seed": [0, 1, 2]}
SECTIONS = ["best", "settings", "curves", "coordinates", "importance", "failures", "runs"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PROBE = """
<script>
const view = document.documentElement;
const boxes = {};
for (const section of document.querySelectorAll("section")) {
  const svgs = [...section.querySelectorAll("svg")].map((svg) => svg.getBoundingClientRect());
  const paths = section.querySelectorAll("polyline, path, circle").length;
  const box = section.getBoundingClientRect();
  boxes[section.id] = {height: box.height, marks: paths, svgs: svgs.map((svg) => [svg.width, svg.height])};
}
const row = document.querySelector("tr[data-s='1']");
row.dispatchEvent(new Event("mouseenter"));
const faint = getComputedStyle(document.querySelector("g[data-s='0']")).opacity;
const seen = getComputedStyle(document.querySelector("g[data-s='1']")).opacity;
row.dispatchEvent(new Event("mouseleave"));
const said = {boxes, faint, seen, width: view.scrollWidth, view: view.clientWidth,
  text: getComputedStyle(document.body).color, paper: getComputedStyle(document.body).backgroundColor};
document.body.insertAdjacentHTML("beforeend", `<pre id="probe">${JSON.stringify(said)}</pre>`);
</script>
"""


def loss_of(given):
    best = 2 - math.log2(given["adapter.rank"]) / 4
    return best + 0.3 * (given["optimizer"] == "prodigy") + 0.02 * given["seed"]


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Record:
    parent = tmp_path_factory.mktemp("runs of <sweeps> & more")
    found = imagined.sweep(
        parent,
        "rank",
        imagined.grid(AXES),
        loss_of,
        "Does rank matter more\nthan <the> `optimizer`?\nacetrain train cache=cache sweep=rank",
    )
    imagined.fail(found, 2, 30, "loss: not finite <in> 5 steps")
    return found


def test_what_was_pruned_is_no_failure(tmp_path):
    record = imagined.sweep(tmp_path, "search", imagined.grid({"optimizer.lr": [1.0, 2.0, 3.0]}), lambda given: 1.0)
    imagined.prune(record, 1, 20, 2.0)
    text = page(collect(record))
    assert (
        "2 of 3" in text and "runs finished, 1 pruned" in text and "None: every run is finished, or was pruned" in text
    )
    assert text.count('class="through open"') == 1 and "so far" in text


class Links(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset") and value]


def test_it_needs_nothing_but_itself(record):
    text = page(collect(record))
    links = Links()
    links.feed(text)
    assert links.found == ["data:,"], "an empty icon, or browsers ask for one"
    assert not re.search(r"url\(|@import|https?://", text)


def test_it_says_everything(record):
    text = page(collect(record))
    assert re.findall(r'<section id="(\w+)"', text) == SECTIONS
    assert (
        '<p class="question">Does rank matter more than &lt;the&gt; <code>optimizer</code>?</p>' in text
        and "loss: not finite &lt;in&gt; 5 steps" in text
    )
    best = collect(record).best
    assert best is not None and best.values == {"adapter.rank": 16, "optimizer": "adamw", "seed": 0}
    assert f"jobs/{best.run}.yaml" in text and "out_dir=repeated" in text and "acetrain train sweep=rank" in text
    assert "exact on this full grid" in text and text.count('class="through') == 6
    assert all(entry.run in text for entry in record.read().entries)


def test_a_sweep_that_has_hardly_begun_has_one_too(tmp_path):
    record = imagined.sweep(tmp_path, "young", imagined.grid({"seed": [0, 1]}), lambda given: 1.0)
    for place in (0, 1):
        imagined.fail(record, place, 0, "loss: not finite")
    text = page(collect(record))
    assert "No run is finished" in text and "Fewer than two settings" in text and "Too few settings" in text


def test_results_are_printed_and_written(record, capsys):
    tell(record)
    said = capsys.readouterr().out
    assert "18 runs: 17 finished, 1 failed" in said
    assert f"report: {record.path / 'report.html'}" in said and (record.path / "results.csv").exists()


def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return found or pytest.fail("there is no Chromium: apt-get install --no-install-recommends chromium")


def browse(file: Path, profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
    command = [browser(), *flags, "--enable-logging=stderr", *arguments, file.absolute().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (500, False)])
def test_a_browser_draws_all_of_it(record, tmp_path, width, dark):
    probed = tmp_path / "probed.html"
    probed.write_text(write(collect(record)).read_text().replace("</body>", f"{PROBE}</body>"))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    done = browse(probed, tmp_path / "profile", f"--window-size={width},4000", scheme, "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    said = json.loads(re.findall(r'<pre id="probe">(.*?)</pre>', done.stdout)[-1])
    assert list(said["boxes"]) == SECTIONS and said["width"] <= said["view"], "nothing sticks out"
    for name, svgs, marks in (("settings", 6, 20), ("curves", 2, 12), ("coordinates", 1, 12)):
        box = said["boxes"][name]
        assert len(box["svgs"]) == svgs and box["marks"] >= marks, name
        assert all(across > 100 and up > 15 for across, up in box["svgs"]), name
    assert (said["faint"], said["seen"]) == ("0.15", "1"), "pointing at a row leaves its setting alone"
    light, heavy = ("text", "paper") if dark else ("paper", "text")
    assert brightness(said[light]) > 200 and brightness(said[heavy]) < 60


@pytest.mark.browser
def test_a_picture_of_it_has_its_colours(record, tmp_path):
    picture = tmp_path / "report.png"
    light = "--blink-settings=preferredColorScheme=1"
    browse(write(collect(record)), tmp_path / "profile", "--window-size=1280,2600", light, f"--screenshot={picture}")
    pixels = (image.imread(picture)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    for colour, least in (((255, 255, 255), 10**6), ((11, 98, 168), 2000), ((192, 74, 0), 300), ((0, 122, 87), 300)):
        assert (abs(pixels - colour).max(axis=1) <= 2).sum() > least, colour


def brightness(colour: str) -> float:
    return max(map(int, re.findall(r"\d+", colour)[:3]))


def test_a_held_out_loss_that_is_no_number_is_not_drawn(tmp_path):
    record = imagined.sweep(tmp_path, "nan", imagined.grid({"adapter.rank": [4, 8], "seed": [0]}), lambda given: 1.0)
    for entry in record.entries():
        with (record.folder(entry.run) / "validation.csv").open("a") as file:
            file.write("70,a,0,0.5,nan\n")
    assert ",nan" not in page(collect(record))


def test_runs_without_a_loss_are_told_as_such(tmp_path):
    record = imagined.sweep(tmp_path, "lost", imagined.grid({"adapter.rank": [4, 8]}), lambda given: math.nan)
    told = page(collect(record))
    assert "No finished run has a loss" in told and "no loss yet" in told and "mean nan" not in told
