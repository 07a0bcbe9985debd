"""`meshllm completion`: the script that a shell completes our commands with."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from meshllm.cli.common import command

WHERE = {
    "bash": "echo 'eval \"$(meshllm completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(meshllm completion zsh)\"' >> ~/.zshrc",
    "fish": "meshllm completion fish > ~/.config/fish/completions/meshllm.fish",
}


@command(
    "completion",
    epilog="\b\n" + "\n".join(f"{shell}: {line}" for shell, line in WHERE.items()),
)
@click.argument("shell", type=click.Choice(list(WHERE)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    click.echo(kind(root, {}, "meshllm", "_MESHLLM_COMPLETE").source())
