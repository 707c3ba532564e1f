"""Run the commands of a page as a reader would, in this process where that is quick, against a server of its own."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from typer.testing import CliRunner

from offers.cli import app
from offers.testing import Served, serving
from tests.docs.pages import Block
from tests.paths import ROOT, environment

TARGET = "localhost:50051"
"""The address in the documents; the server of a test listens elsewhere."""
COMMANDS: Any = typer.main.get_command(app)
BIN = Path(sys.executable).parent


def patient(program: str) -> str:
    """Return a program with deadlines that also hold while other tests keep the machine busy."""
    return re.sub(r"timeout_s=0\.\d+", "timeout_s=30", program)


class Reader:
    """Somebody who types what a page says, in a folder of their own."""

    def __init__(self, folder: Path, served: Served, data: Path) -> None:
        self.folder = folder
        self.served, self.data = served, data
        """The server that listens at TARGET, and its data folder."""
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        """Stop the servers the page has started."""
        self._stack.close()

    def run(self, command: str, status: int = 0) -> str:
        """Run one command and return what it prints. Fails if it ends with another exit status."""
        command, _, file = command.partition(" > ")
        words = shlex.split(command, comments=True)
        words[0] = words[0].removeprefix(".venv/bin/")
        match words:
            case ["offers", "serve", *options]:
                return self._serve(options)
            case ["offers", "learn", *rest]:  # handles signals: a process of its own
                rest = rest if "--data-dir" in rest else [*rest, "--data-dir", str(self.data)]
                printed = checked([sys.executable, "-m", "offers", "learn", *rest], self.folder)
            case ["offers", *rest]:
                printed = self._offers(rest, status)
            case ["make", *_]:
                return checked([*words, "--dry-run"], ROOT)
            case ["pip", "install", package]:
                return extra(package)
            case ["buf", *_]:
                printed = checked([str(BIN / "buf"), *self._aimed(words[1:])], self.folder)
            case ["python", *_]:
                printed = checked([sys.executable, *words[1:]], self.folder)
            case _:
                printed = checked(words, self.folder)
        if file:
            (self.folder / file.strip()).write_text(printed, "utf-8")
            return ""
        return printed

    def _aimed(self, words: list[str]) -> list[str]:
        return [word.replace(TARGET, self.served.target) for word in words]

    def _serve(self, options: list[str]) -> str:
        """Start a server in this process with the settings of these options."""
        words = [word for word in options if word != "&"]
        with COMMANDS.commands["serve"].make_context("serve", words) as context:
            given = {
                name: value
                for name, value in context.params.items()
                if context.get_parameter_source(name).name == "COMMANDLINE"
            }
        source = given.pop("catalog", None)
        for name in ("config", "port", "workers", "learner"):
            given.pop(name, None)
        data = Path(given.pop("data_dir", self.folder / "data"))
        path = self.folder / source[0] if source else None
        self.served = self._stack.enter_context(serving(path, data_dir=data, **given))
        self.data = data
        return ""

    def _offers(self, words: list[str], status: int) -> str:
        """Run a command of ours in this process."""
        group: Any = COMMANDS
        for word in words:
            if not hasattr(group, "commands"):
                break
            if word in group.commands:
                group = group.commands[word]
        options = {option for parameter in group.params for option in parameter.opts}
        words = self._aimed(words)
        if "--target" in options and "--target" not in words:
            words += ["--target", self.served.target]
        if "--data-dir" in options and "--data-dir" not in words:
            words += ["--data-dir", str(self.data)]
        result = CliRunner(env={"COLUMNS": "110"}).invoke(app, words)
        if result.exit_code != status:
            message = f"offers {shlex.join(words)}: exit status {result.exit_code}\n{result.output}"
            raise AssertionError(message) from result.exception
        return result.output if status else result.stdout


def checked(words: list[str], folder: Path) -> str:
    """Run a program and return what it prints; fail with its output if it fails."""
    variables = {**environment(), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=300)
    assert 0 == done.returncode, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def extra(package: str) -> str:
    """Check that an extra of ours exists."""
    wanted = re.fullmatch(r"(?:offers|\.)\[(.+)\]", package)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert wanted, package
    assert wanted[1] in known, package
    return ""


def steps(block: Block) -> Iterator[tuple[str, str]]:
    """Yield the commands of a block, each with what it is said to print."""
    text = re.sub(r"\\\n *", "", block.text)
    if block.language == "sh":
        for line in text.splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield line, "..."
        return
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def agrees(said: str, printed: str, *, numbers_vary: bool) -> bool:
    """Tell whether a command printed what a page says: "..." on a line of its own stands for any lines."""

    def even(text: str) -> list[str]:
        lines = [" ".join(line.split()) for line in text.strip("\n").splitlines()]
        if numbers_vary:
            lines = [re.sub(r"[+−-]?\d[\d,.]*|[─━┄]+|\s+", " ", line) for line in lines]  # noqa: RUF001 - a minus sign
            lines = [" ".join(line.split()) for line in lines]
        return [line for line in lines if line]

    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in even(said))
    return re.fullmatch(pattern, "\n".join([*even(printed), ""])) is not None
