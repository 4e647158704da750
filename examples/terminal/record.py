#!/usr/bin/python3
"""Draws session.svg, the picture of the README, from a session of the real programs.

The script needs Debian's packages tmux, python3-rich and netcat-openbsd, and port 7007. It types commands into
two terminals of tmux, and draws what the terminals then show.

    cargo build --release && examples/terminal/record.py
"""

import pathlib
import subprocess
import time

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = pathlib.Path(__file__).parent
PROJECT = HERE.parent.parent
WIDTH = 108
# Name only local fonts, because an SVG picture in a page can't load others.
FRAME = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
.{unique_id}-title {{ font: bold 18px sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def tmux(*args):
    done = subprocess.run(["tmux", "-L", "record", *args], check=True, capture_output=True, text=True)
    return done.stdout


def screen(pane):
    return tmux("capture-pane", "-e", "-p", "-t", pane)


def type_line(pane, line):
    tmux("send-keys", "-t", pane, "-l", line)
    tmux("send-keys", "-t", pane, "Enter")


def wait_for(pane, text):
    """Waits until the terminal shows the text."""
    deadline = time.monotonic() + 30
    while text not in screen(pane):
        if time.monotonic() > deadline:
            raise SystemExit(f"{text!r} does not appear in:\n{screen(pane)}")
        time.sleep(0.05)


def main():
    shell = "env PS1='$ ' bash --norc --noprofile"
    tmux("new-session", "-d", "-x", str(WIDTH), "-y", "14", "-c", str(PROJECT), shell)
    try:
        tmux("split-window", "-d", "-c", str(PROJECT), shell)
        server, client = "0.0", "0.1"
        wait_for(server, "$")
        type_line(server, "cargo run --release")
        wait_for(server, "listening on")
        wait_for(client, "$")
        type_line(client, "printf 'hello\\n' | nc -N 127.0.0.1 7007")
        wait_for(client, "\nhello")
        type_line(client, "target/release/echod probe :7007")
        wait_for(client, "echoes 1024 bytes")
        tmux("send-keys", "-t", server, "C-c")
        wait_for(server, "stopped:")
        shown = [screen(pane).rstrip() for pane in (server, client)]
    finally:
        tmux("kill-server")
    console = Console(record=True, width=WIDTH, file=open("/dev/null", "w"), force_terminal=True)
    for text in (shown[0], "\n" + shown[1]):
        console.print(Text.from_ansi(text))
    svg = console.export_svg(title="echod", theme=MONOKAI, code_format=FRAME)
    (HERE / "session.svg").write_text(svg)


if __name__ == "__main__":
    main()
