"""What all commands share: where the home is, how to print, how loud to log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from meshllm import __version__
from meshllm.config import (
    DEMO_VARIABLE,
    FILE,
    HOME_VARIABLE,
    Value,
    default_home,
    read_config,
)
from meshllm.errors import ConfigError, MeshError

CONFIGURED: Final = ("signal", "share", "gateway", "pair")  # sections of config.toml
LEVELS: Final = ("debug", "info", "warning", "error")
PACKAGES: Final = ("meshllm", "signaling")  # whose log lines --log-level is about


@dataclass(slots=True)
class Common:
    """The options that every command takes, before or after its name."""

    given_home: Path | None = None
    json: bool = False
    verbose: bool = False
    log_level: str = "warning"

    @property
    def home(self) -> Path:
        return self.given_home or default_home()

    def tell(self, text: str, document: Mapping[str, Any]) -> None:
        """One result: `text` for people, `document` under --json."""
        if self.json:
            click.echo(json.dumps(document, ensure_ascii=False))
        else:
            click.echo(text)

    def event(self, name: str, text: str, **fields: Any) -> None:
        """One of several lines: under --json one object each, with its `event`."""
        self.tell(text, {"event": name, **fields})

    def next(self, *lines: str) -> None:
        """What to type now; programs know without."""
        if not self.json:
            click.echo(_next(lines))

    def hint(self, *lines: str) -> None:
        """The same where stdout is for the result alone."""
        if not self.json:
            click.echo(_next(lines), err=True)

    def note(self, text: str) -> None:
        """For the person who watches; never in the way of the output."""
        click.echo(text, err=True)


def _next(lines: Iterable[str]) -> str:
    return "\n".join(("Next:", *(f"  {line}" for line in lines)))


PORT: Final = click.IntRange(0, 65535)  # 0: the system chooses a free one
pass_common = click.make_pass_decorator(Common)


def common_options(*, environment: bool) -> list[click.Parameter]:
    """`environment`: whether these read it too. Only the first, `meshllm`'s own, may:
    else a variable would win over `meshllm --home DIR COMMAND`."""

    def option(names: list[str], env: str | None = None, **more: Any) -> click.Option:
        return click.Option(
            names,
            expose_value=False,
            callback=_remember,
            envvar=env if environment else None,
            **more,
        )

    return [
        option(
            ["--home", "given_home"],
            is_eager=True,
            type=click.Path(file_okay=False, path_type=Path),
            help=f"Where this node keeps its state.  [env var: {HOME_VARIABLE}]",
        ),
        option(["--json"], is_flag=True, help="Print JSON."),
        option(
            ["--log-level"],
            "MESHLLM_LOG_LEVEL",
            type=click.Choice(LEVELS, case_sensitive=False),
            help="What goes to stderr: this and what is worse. Default: warning."
            "  [env var: MESHLLM_LOG_LEVEL]",
        ),
        option(["-v", "--verbose"], is_flag=True, help="Show where an error arose."),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Show the version.",
        ),
    ]


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"meshllm {__version__}")
        ctx.exit()


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    common = ctx.ensure_object(Common)
    if value not in (None, False):
        setattr(common, str(param.name), value)
    if param.name == "given_home" and isinstance(ctx.command, ConfiguredCommand):
        # It is eager: the options after it can still take their defaults from there.
        ctx.default_map = _settings(ctx, common.home)


class Command(click.Command):
    """A command that takes the common options too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += common_options(environment=False)

    @property
    def own_options(self) -> dict[str, click.Option]:
        """By the long name without its dashes, as config.toml has it."""
        return {
            max(param.opts, key=len).lstrip("-"): param
            for param in self.params
            if isinstance(param, click.Option) and param.expose_value
        }


class ConfiguredCommand(Command):
    """One whose options may also come from MESHLLM_… and from config.toml."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for key, option in self.own_options.items():
            option.envvar = f"MESHLLM_{self.name}_{key}".upper().replace("-", "_")
            option.show_envvar = True


class ServingCommand(ConfiguredCommand):
    """One that serves until it is told to end."""

    def invoke(self, ctx: click.Context) -> Any:
        _end_with_parent()
        return super().invoke(ctx)


def command(name: str, **more: Any) -> Callable[[Callable[..., Any]], Command]:
    """Makes a function `meshllm NAME`."""
    return click.command(name, cls=Command, **more)


def configured_command(
    name: str, **more: Any
) -> Callable[[Callable[..., Any]], ConfiguredCommand]:
    """The same, for one with a section in config.toml."""
    return click.command(name, cls=ConfiguredCommand, **more)


def serving_command(
    name: str, **more: Any
) -> Callable[[Callable[..., Any]], ServingCommand]:
    """The same, for one that serves until it is told to end."""
    return click.command(name, cls=ServingCommand, **more)


def _end_with_parent() -> None:
    """When `demo` started us: however it ends, we end, and its folder goes."""
    from meshllm.processes import exit_when_parent_dies

    folder = os.environ.pop(DEMO_VARIABLE, "")
    remove = partial(shutil.rmtree, folder, ignore_errors=True) if folder else None
    exit_when_parent_dies(remove)


def _settings(ctx: click.Context, home: Path) -> dict[str, Any]:
    """The command's section of config.toml, as click's defaults."""
    if not (home / FILE).exists():
        return {}
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    known: dict[str, dict[str, click.Option]] = {}
    for name in CONFIGURED:
        found = group.get_command(ctx, name)
        assert isinstance(found, ConfiguredCommand)
        known[name] = found.own_options
    section = str(ctx.command.name)
    defaults: dict[str, Any] = {}
    for key, value in read_config(home, known).get(section, {}).items():
        option = known[section][key]
        defaults[str(option.name)] = _cast(ctx, option, value, home / FILE)
    return defaults


def _cast(ctx: click.Context, option: click.Option, value: Value, path: Path) -> Any:
    given: Any = value
    if option.multiple and not isinstance(value, list):
        given = [value]
    where = f"{path}: `{max(option.opts, key=len).lstrip('-')}` in [{ctx.command.name}]"
    if isinstance(value, list) and not option.multiple:
        raise ConfigError(f"{where} takes one value.")
    try:
        return option.type_cast_value(ctx, given)
    except click.BadParameter as exc:
        raise ConfigError(f"{where}: {exc.message}") from exc


def not_yet(option: str) -> MeshError:
    return ConfigError(f"{option} is not built yet; it comes with a later version.")


@contextlib.contextmanager
def logging_on(common: Common, also: Iterable[logging.Handler] = ()) -> Iterator[None]:
    """Our own lines to stderr from --log-level on, and to `also`; others' warnings."""
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setLevel(common.log_level.upper())
    stderr.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    handlers = [stderr, *also]
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(min(h.level for h in handlers))
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
