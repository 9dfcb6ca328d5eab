"""`peav library info`: what a library holds."""

from __future__ import annotations

from peav.cli import options
from peav.cli.console import escape, out, print_json, shown


def library_info(library: options.Library, as_json: options.Json = False) -> None:
    """Say what a library holds: its model, its windows, and which of its files are there, changed, gone or failed."""
    from peav.search.manage import library_info as info

    facts = info(library)
    if as_json:
        print_json(facts)
        return
    state, window = facts["state"], facts["window"]
    out.print(f"[bold]{shown(library)}[/]: {facts['bytes'] / 2**20:.1f} MiB, made by {escape(facts['model'])}")
    cut = "" if window is None else f" of {window:g} s"
    out.print(f"{facts['files']} files ({facts['hours']:.2f} h) in {facts['windows']} windows{cut}")
    out.print(f"{state['there']} there, {state['changed']} changed, {state['gone']} gone; {facts['failed']} failed")
    if state["gone"]:
        out.print("[dim]`peav library sync` takes out what has gone; give it folders to find what has moved[/]")
