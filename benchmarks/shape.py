"""The shape of the code: files, functions, comments, code lines, of one commit or of several side by side.

    python benchmarks/shape.py                   the working tree
    python benchmarks/shape.py 4a8d90e .         a commit, and the working tree beside it

Prints the table of docs/architecture.md. A code line holds code: no blank line, no comment, no docstring. The comments'
share is of all lines.
"""

from __future__ import annotations

import ast
import io
import statistics
import subprocess
import sys
import tarfile
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONG = 50  # lines of a long function


@dataclass
class Shape:
    """What is counted over some Python files."""

    lines: list[int] = field(default_factory=list)  # of each file
    functions: list[int] = field(default_factory=list)  # lines of each
    comments: int = 0
    code: int = 0

    def add(self, text: str) -> None:
        """Count one file."""
        docstrings: set[int] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions.append((node.end_lineno or node.lineno) - node.lineno + 1)
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                docstrings.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        code: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                self.comments += 1
            elif token.type not in (
                tokenize.NL,
                tokenize.NEWLINE,
                tokenize.INDENT,
                tokenize.DEDENT,
                tokenize.ENDMARKER,
            ):
                code.update(range(token.start[0], token.end[0] + 1))
        self.code += len(code - docstrings)
        self.lines.append(text.count("\n"))


def files(commit: str) -> dict[str, str]:
    """Path -> text of the Python files under src and tests; `.` is the working tree."""
    if commit == ".":
        paths = [path for folder in ("src", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
        return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    command = ["git", "archive", commit, "src", "tests"]
    with tarfile.open(
        fileobj=io.BytesIO(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    ) as tar:
        members = [member for member in tar if member.name.endswith(".py")]
        return {member.name: tar.extractfile(member).read().decode() for member in members}  # type: ignore[union-attr]


def column(commit: str) -> dict[str, str]:
    """The figures of one commit."""
    source, tests = Shape(), Shape()
    for path, text in files(commit).items():
        (source if path.startswith("src/") else tests).add(text)
    return {
        "files": f"{len(source.lines)}",
        "median file, lines": f"{statistics.median(source.lines):.0f}",
        "largest file, lines": f"{max(source.lines)}",
        "functions": f"{len(source.functions)}",
        "median function, lines": f"{statistics.median(source.functions):.0f}",
        f"functions over {LONG} lines": f"{sum(lines > LONG for lines in source.functions)}",
        "comments, share of lines": f"{100 * source.comments / sum(source.lines):.1f} %",
        "tests to code, lines": f"{sum(tests.lines) / sum(source.lines):.2f}",
        "code lines": f"{source.code}",
    }


def main() -> None:
    commits = sys.argv[1:] or ["."]
    columns = [column(commit) for commit in commits]
    print("| | " + " | ".join("now" if commit == "." else f"`{commit}`" for commit in commits) + " |")
    print("|---|" + "---:|" * len(commits))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(figures[name] for figures in columns) + " |")


if __name__ == "__main__":
    main()
