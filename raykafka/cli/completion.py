"""``raykafka completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_RAYKAFKA_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash   echo 'eval "$(raykafka completion bash)"' >> ~/.bashrc
    zsh    echo 'eval "$(raykafka completion zsh)"' >> ~/.zshrc
    fish   raykafka completion fish > ~/.config/fish/completions/raykafka.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"{shell} cannot be completed by this version of click")
    click.echo(kind(context.find_root().command, {}, "raykafka", _VARIABLE).source())
